"""Why a service was not reached: the first cause that the exceptions of a client library know of."""

import asyncio
import socket
import ssl
from collections.abc import Iterator

from meter.doctor.answers import Fault

MOST_CAUSES = 20
_BY_NAME = (
    ("nameresolution", Fault.DNS),
    ("dns", Fault.DNS),
    ("ssl", Fault.TLS),
    ("certificate", Fault.TLS),
    ("timeout", Fault.TIMEOUT),
)


def fault_of(exc: BaseException) -> Fault:
    """What lies behind an exception: its causes are looked through, the last one decides."""
    causes = list(_causes(exc))
    for cause in reversed(causes):
        if (fault := _fault(cause)) is not None:
            return fault
    return Fault.BROKEN


def _fault(exc: BaseException) -> Fault | None:
    match exc:
        case socket.gaierror():
            return Fault.DNS
        case ssl.SSLError():
            return Fault.TLS
        case ConnectionRefusedError():
            return Fault.REFUSED
        case asyncio.TimeoutError() | TimeoutError():
            return Fault.TIMEOUT
    name = type(exc).__name__.lower()
    return next((fault for word, fault in _BY_NAME if word in name), None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was made from: libraries keep them in different places."""
    seen: list[BaseException] = []
    waiting: list[object] = [exc]
    while waiting and len(seen) < MOST_CAUSES:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is each for each in seen):
            continue
        seen.append(one)
        yield one
        waiting += [one.__cause__, one.__context__, *one.args]
        waiting += [getattr(one, name, None) for name in ("os_error", "reason", "inner_exception")]
