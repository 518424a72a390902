"""What the failure of a step at the tables is."""

import pytest

from meter.adapters.probes.tables import outcome_of
from meter.doctor.answers import Fault, NoAnswer, NoToken, Outcome, Refused
from meter.errors import AccessDenied, NotSignedIn, StorageUnavailable

BUSY = StorageUnavailable("T: refused ServerBusy 503", status=503, code="ServerBusy")
DENIED = AccessDenied("T: 403", status=403, code="AuthorizationPermissionMismatch")


def broken() -> StorageUnavailable:
    error = StorageUnavailable("T: ServiceRequestError")
    error.__cause__ = ConnectionRefusedError()
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BUSY, Refused("ServerBusy", 503, "read")),
        (DENIED, Refused("AuthorizationPermissionMismatch", 403, "read")),
        (NotSignedIn("no identity"), NoToken()),
        (broken(), NoAnswer(Fault.REFUSED)),
        (StorageUnavailable("T: an answer without an etag"), Refused("", None, "read")),
    ],
)
def test_a_failure_is_told_from_others(error: StorageUnavailable, outcome: Outcome) -> None:
    """By the refusal itself, whichever way it came: as an exception of the SDK, or in a batch."""
    assert outcome_of(error, "read") == outcome
