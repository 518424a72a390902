"""What a probe of Event Hubs, tables and blobs means."""

import pytest

from meter.doctor.answers import Accepted, Fault, NoAnswer, NoToken, Outcome, Refused
from meter.doctor.finding import Area, Status
from meter.doctor.services import TABLE_CONTRIBUTOR, Place, judge


def place(*, has_key: bool = False) -> Place:
    return Place(
        area=Area.TABLES,
        name="tables",
        tried="write",
        role=TABLE_CONTRIBUTOR,
        scope="ID",
        has_key=has_key,
    )


@pytest.mark.parametrize(
    ("outcome", "status", "found", "role"),
    [
        (Accepted(), "ok", "write: allowed", None),
        (Accepted("all of it"), "ok", "all of it", None),
        (NoToken(), "fail", "no identity can get a token", None),
        (NoAnswer(Fault.TIMEOUT), "fail", "no answer in time", None),
        (
            Refused("AuthorizationPermissionMismatch", 403),
            "fail",
            "write: the role Storage Table Data Contributor is missing",
            TABLE_CONTRIBUTOR,
        ),
        (Refused("unauthorized-access", 401), "fail", "is missing", TABLE_CONTRIBUTOR),
        (Refused("AuthorizationFailure", 403), "fail", "refused for this network", None),
        (Refused("KeyBasedAuthenticationNotPermitted", 403), "fail", "keys are off", None),
        (Refused("not-found"), "fail", "does not exist (not-found)", None),
        (Refused("ServerBusy", 503), "warn", "throttled", None),
        (Refused("Odd", 409, "read"), "fail", "read: Odd 409", None),
        (Refused("InvalidConnectionString"), "fail", "is not valid", None),
    ],
)
def test_an_outcome_is_told_from_others(
    outcome: Outcome, status: str, found: str, role: str | None
) -> None:
    """The missing role is named as Azure names it, and only where a role is missing."""
    finding = judge(place(), outcome)

    assert (finding.status, finding.role) == (status, role)
    assert found in finding.found
    assert bool(finding.advice) == (status != "ok")


@pytest.mark.parametrize("code", ["AuthenticationFailed", "unauthorized-access"])
def test_a_connection_string_lacks_no_role(code: str) -> None:
    """Its key is wrong, or has no such right."""
    finding = judge(place(has_key=True), Refused(code, 403))

    assert (finding.status, finding.role) == (Status.FAIL, None)
    assert "the key is refused" in finding.found
