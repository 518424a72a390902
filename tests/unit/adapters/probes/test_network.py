"""Why a service was not reached, whatever library says so."""

import socket
import ssl

import aiohttp
import pytest
import requests
import urllib3

from meter.adapters.probes.network import fault_of
from meter.doctor.answers import Fault


def caused(by: BaseException) -> Exception:
    error = ValueError("something failed")
    error.__cause__ = by
    return error


POOL = urllib3.HTTPSConnectionPool("nowhere")
KEY = aiohttp.client_reqrep.ConnectionKey("nowhere", 443, True, None, None, None, None)  # type: ignore[arg-type]  # of no use here


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (caused(socket.gaierror(-2, "Name or service not known")), Fault.DNS),
        (aiohttp.ClientConnectorDNSError(KEY, OSError("DNS")), Fault.DNS),
        (
            requests.ConnectionError(
                urllib3.exceptions.MaxRetryError(
                    POOL,
                    "/",
                    urllib3.exceptions.NameResolutionError("nowhere", POOL, socket.gaierror()),  # type: ignore[arg-type]  # a pool stands for its connection
                )
            ),
            Fault.DNS,
        ),
        (caused(ssl.SSLCertVerificationError("certificate")), Fault.TLS),
        (requests.exceptions.SSLError("certificate"), Fault.TLS),
        (caused(ConnectionRefusedError()), Fault.REFUSED),
        (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError()), Fault.REFUSED),
        (TimeoutError(), Fault.TIMEOUT),
        (requests.ReadTimeout(), Fault.TIMEOUT),
        (ConnectionResetError(), Fault.BROKEN),
    ],
)
def test_the_first_cause_is_found(error: Exception, fault: Fault) -> None:
    """Libraries keep it as a cause, a context, an argument or an attribute."""
    assert fault_of(error) is fault


def test_a_circle_of_causes_ends() -> None:
    """Whatever refers to whatever."""
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one

    assert fault_of(one) is Fault.BROKEN
