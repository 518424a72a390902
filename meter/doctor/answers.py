"""What probes bring back from a service, before it is judged: an answer, or why there is none."""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Why a service did not answer."""

    DNS = "its name cannot be resolved"
    TLS = "its certificate is not accepted"
    REFUSED = "the connection is refused"
    TIMEOUT = "it does not answer in time"
    BROKEN = "the connection breaks"


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The service was not reached."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class NoToken:
    """No identity gave a token for it, so it was not asked."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer: its status, and the code and the message of its error, if it is one."""

    status: int
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service did what was asked."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The service refused it: the code of its error, and what was asked."""

    code: str
    status: int | None = None
    step: str = ""


type Outcome = Accepted | Refused | NoAnswer | NoToken

SIGN_IN = "sign in with `az login`, or give the app an identity (AZURE_CLIENT_ID)"

ADVICE = {
    Fault.DNS: "check the name; behind a private endpoint, link its private DNS zone to this network",
    Fault.TLS: "check the address, and whether a proxy in between opens TLS",
    Fault.REFUSED: "check address and port, and whether a firewall is in between",
    Fault.TIMEOUT: "check the network path: firewall, private endpoint, routes",
    Fault.BROKEN: "check the network path: a firewall or a proxy may cut it",
}
