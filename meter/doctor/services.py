"""Judges what Event Hubs, tables and blobs did with a probe: accepted, refused for want of a role, or not."""

from dataclasses import dataclass

from meter.doctor.answers import ADVICE, SIGN_IN, Accepted, NoAnswer, NoToken, Outcome, Refused
from meter.doctor.backends import assign
from meter.doctor.finding import Area, Finding, Status

HUB_SENDER = "Azure Event Hubs Data Sender"
HUB_RECEIVER = "Azure Event Hubs Data Receiver"
TABLE_CONTRIBUTOR = "Storage Table Data Contributor"
TABLE_READER = "Storage Table Data Reader"
BLOB_CONTRIBUTOR = "Storage Blob Data Contributor"
BLOB_OWNER = "Storage Blob Data Owner"
BLOB_READER = "Storage Blob Data Reader"

_NO_ROLE = frozenset({"AuthorizationPermissionMismatch", "unauthorized-access"})
_NETWORK = frozenset({"AuthorizationFailure", "PublicAccessNotPermitted", "ip-denied"})
_NO_KEYS = frozenset({"KeyBasedAuthenticationNotPermitted", "local-auth-disabled"})
_GONE = frozenset({"not-found", "ContainerNotFound", "ResourceNotFound", "BlobNotFound"})
_BUSY = frozenset({"server-busy", "ServerBusy", "throttled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What was probed: its name, what was tried there, and the role that it takes."""

    area: Area
    name: str
    tried: str
    role: str
    scope: str
    has_key: bool = False  # a connection string, else the identity
    missing: str = "what the settings name does not exist"

    def finding(self, status: Status, found: str, advice: str = "") -> Finding:
        """A finding about it."""
        return Finding(area=self.area, name=self.name, status=status, found=found, advice=advice)


def judge(place: Place, outcome: Outcome) -> Finding:
    """What the outcome says about the service, and about our rights there."""
    match outcome:
        case Accepted(detail):
            return place.finding(Status.OK, detail or f"{place.tried}: allowed")
        case NoToken():
            return place.finding(Status.FAIL, "no identity gives a token", SIGN_IN)
        case NoAnswer(fault):
            return place.finding(Status.FAIL, fault.value, ADVICE[fault])
        case Refused():
            return _refused(place, outcome)


def unread(place: Place, *, is_reference: bool) -> Finding:
    """A service whose connection string is not known here."""
    if is_reference:
        found = "not asked: its connection is a reference that Azure resolves on the app alone"
        return place.finding(Status.WARN, found, "ask the app itself: GET /doctor")
    found = "not asked: its settings are not valid"
    return place.finding(Status.FAIL, found, "repair what class settings says")


def _refused(place: Place, refused: Refused) -> Finding:
    code, tried = refused.code, refused.step or place.tried
    shown = " ".join(str(each) for each in (code, refused.status) if each)
    if code in _BUSY or refused.status in {429, 503}:
        return place.finding(Status.WARN, f"{tried}: throttled ({shown})", "try again")
    if code in _GONE:
        return place.finding(
            Status.FAIL, f"{tried}: {place.missing} ({shown})", "create it, or correct its name"
        )
    if code in _NO_KEYS:
        advice = "use an identity instead of a connection string"
        return place.finding(Status.FAIL, f"{tried}: keys are off ({shown})", advice)
    if place.has_key and (code in _NO_ROLE | _NETWORK or refused.status in {401, 403}):
        network = ", or this network" if code in _NETWORK else ""
        advice = "store the current connection string, with the rights that the app needs"
        return place.finding(Status.FAIL, f"{tried}: the key is refused{network} ({shown})", advice)
    if code in _NETWORK:
        advice = "ask from the app's network (private endpoint), or allow this address"
        return place.finding(Status.FAIL, f"{tried}: refused for this network ({shown})", advice)
    if code in _NO_ROLE or refused.status in {401, 403}:
        return Finding(
            area=place.area,
            name=place.name,
            status=Status.FAIL,
            found=f"{tried}: the role {place.role} is missing ({shown})",
            advice=assign(place.role, place.scope),
            role=place.role,
        )
    return place.finding(
        Status.FAIL, f"{tried}: {shown or 'refused'}", "check the service's health"
    )
