"""Findings about what was not reached: it gave no answer, nobody signs in, or it was not asked."""

from meter.doctor.answers import Fault, NoAnswer, NoToken
from meter.doctor.finding import Examined, Finding

_ADVICE = {
    Fault.DNS: "check the name; behind a private endpoint, link its private DNS zone to this network",
    Fault.TLS: "check the address, and whether a proxy in between opens TLS",
    Fault.REFUSED: "check address and port, and whether a firewall is in between",
    Fault.TIMEOUT: "check the network path: firewall, private endpoint, routes",
    Fault.BROKEN: "check the network path: a firewall or a proxy may cut it",
}

OTHER_NETWORK = "check from the app's network (private endpoint), or allow this address"


def unanswered(examined: Examined, answer: NoAnswer | NoToken) -> Finding:
    """Why there is no answer."""
    match answer:
        case NoAnswer(fault):
            return examined.failure(fault.value, _ADVICE[fault])
        case NoToken():
            return examined.failure(
                "no identity can get a token",
                "sign in with `az login`, or give the app an identity (AZURE_CLIENT_ID)",
            )


def unasked(examined: Examined, *, is_reference: bool, what: str) -> Finding:
    """`what` it is asked with is not known here: a reference that Azure resolves, or not valid."""
    if is_reference:
        return examined.warning(
            f"not checked: its {what} is a reference that only the app resolves",
            "check on the app: GET /doctor",
        )
    return examined.failure("not checked: its settings are not valid", "fix the settings first")
