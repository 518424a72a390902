"""What probes bring back from a service, before it is judged: an answer, or why there is none."""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Why a service did not answer."""

    DNS = "the name cannot be resolved"
    TLS = "the certificate is not accepted"
    REFUSED = "the connection is refused"
    TIMEOUT = "no answer in time"
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
