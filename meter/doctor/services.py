"""Judges what Event Hubs, tables and blobs did with a probe: accepted, refused for want of a role, or not."""

from dataclasses import dataclass

from meter.doctor.answers import Accepted, NoAnswer, NoToken, Outcome, Refused
from meter.doctor.finding import Examined, Finding
from meter.doctor.unreached import OTHER_NETWORK, unanswered

HUB_SENDER = "Azure Event Hubs Data Sender"
HUB_RECEIVER = "Azure Event Hubs Data Receiver"
TABLE_CONTRIBUTOR = "Storage Table Data Contributor"
TABLE_READER = "Storage Table Data Reader"
BLOB_CONTRIBUTOR = "Storage Blob Data Contributor"
BLOB_OWNER = "Storage Blob Data Owner"

_NO_ROLE = frozenset({"AuthorizationPermissionMismatch", "unauthorized-access"})
_NETWORK = frozenset({"AuthorizationFailure", "PublicAccessNotPermitted", "ip-denied"})
_NO_KEYS = frozenset({"KeyBasedAuthenticationNotPermitted", "local-auth-disabled"})
_GONE = frozenset({"not-found", "ContainerNotFound", "ResourceNotFound", "BlobNotFound"})
_INVALID = frozenset({"InvalidConnectionString", "InvalidAddress"})  # the probes' own
_BUSY = frozenset({"server-busy", "ServerBusy", "throttled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Examined):
    """What was probed: what was tried there, and the role that it takes."""

    tried: str
    role: str
    scope: str
    has_key: bool = False  # a connection string, else the identity
    missing: str = "it does not exist"


def judge(place: Place, outcome: Outcome) -> Finding:
    """What the outcome says about the service, and about our rights there."""
    match outcome:
        case Accepted(detail):
            return place.ok(detail or f"{place.tried}: allowed")
        case NoToken() | NoAnswer():
            return unanswered(place, outcome)
        case Refused():
            return _refused(place, outcome)


def _refused(place: Place, refused: Refused) -> Finding:
    code, tried = refused.code, refused.step or place.tried
    shown = " ".join(str(each) for each in (code, refused.status) if each)
    is_denied = refused.status in {401, 403}
    if code in _BUSY or refused.status in {429, 503}:
        return place.warning(f"{tried}: throttled ({shown})", "try again")
    if code in _INVALID:
        return place.failure("its connection string or address is not valid", "correct the setting")
    if code in _GONE:
        found = f"{tried}: {place.missing} ({shown})"
        return place.failure(found, "create it, or correct its name")
    if code in _NO_KEYS:
        advice = "use an identity instead of a connection string"
        return place.failure(f"{tried}: keys are off ({shown})", advice)
    if place.has_key and (code in _NO_ROLE | _NETWORK or is_denied):
        network = ", or this network" if code in _NETWORK else ""
        advice = "store the current connection string, with the rights that the app needs"
        return place.failure(f"{tried}: the key is refused{network} ({shown})", advice)
    if code in _NETWORK:
        return place.failure(f"{tried}: refused for this network ({shown})", OTHER_NETWORK)
    if code in _NO_ROLE or is_denied:
        found = f"{tried}: the role {place.role} is missing ({shown})"
        return place.lacks(place.role, place.scope, found)
    return place.failure(f"{tried}: {shown or 'refused'}", "check the service's health")
