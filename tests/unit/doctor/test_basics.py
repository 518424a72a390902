"""Settings, sign-in, keys, the clock and versions, as findings."""

import pytest

from meter.doctor.answers import Fault, NoAnswer
from meter.doctor.basics import (
    Offsets,
    Versions,
    clock_finding,
    issuer_finding,
    settings_findings,
    sign_in_finding,
    version_findings,
)
from meter.doctor.finding import Status
from meter.errors import Problem

PROBLEMS = (Problem("METER_FOO", "is not a setting"), Problem("KEY", "is a reference"))


def test_each_problem_of_the_settings_is_a_finding() -> None:
    """A reference that Azure resolves on the app alone is none, seen from a laptop."""
    found = settings_findings(PROBLEMS, ["beware"], references=["KEY"], on_app=False)

    assert [(each.name, each.status) for each in found] == [
        ("METER_FOO", Status.FAIL),
        ("KEY", Status.WARN),
        ("warning", Status.WARN),
    ]
    assert found[0].found == "is not a setting"


def test_a_reference_that_is_unresolved_on_the_app_fails() -> None:
    """The app's identity lacks a role on the vault, or the address is wrong."""
    (found,) = settings_findings((), (), references=["KEY"], on_app=True)

    assert (found.status, found.role) == (Status.FAIL, "Key Vault Secrets User")


def test_valid_settings_are_said_to_be_valid() -> None:
    """Also beside warnings."""
    found = settings_findings((), ["beware"], references=[], on_app=False)

    assert [(each.status, each.found) for each in found] == [("ok", "valid"), ("warn", "beware")]


def test_who_signs_in_is_shown_by_ids() -> None:
    """And whose rights the others findings are about."""
    found = sign_in_finding({"oid": "1", "appid": "2", "tid": "3", "name": "Ada"}, on_app=False)

    assert found.found == (
        "object id 1, client id 2, tenant 3 (rights below are this identity's, not the app's)"
    )
    assert sign_in_finding(None, on_app=True).status is Status.FAIL


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [
        (2, "ok", "publishes 2 usable keys"),
        (0, "fail", "publishes no usable key for RS256"),
        ("the discovery document names another issuer", "fail", "names another issuer"),
        (NoAnswer(Fault.DNS), "fail", "the name cannot be resolved"),
    ],
)
def test_an_issuer_needs_a_usable_key(
    outcome: int | str | NoAnswer, status: str, text: str
) -> None:
    """One that METER_ALGORITHMS accept."""
    found = issuer_finding("https://issuer", outcome, ["RS256"])

    assert (found.status, found.name) == (status, "https://issuer")
    assert text in found.found


@pytest.mark.parametrize(
    ("ahead", "status", "text"),
    [
        (0.4, "ok", "within 0.4 s of 1 server"),
        (-30, "warn", "30 s behind 1 server"),
        (61, "fail", "61 s ahead of 1 server"),
    ],
)
def test_the_clock_is_compared_with_servers(ahead: float, status: str, text: str) -> None:
    """Beyond the leeway of tokens it fails."""
    offsets = Offsets()
    offsets.learn("a", served_at=1_000.0, sent_at=1_000.4 + ahead, received_at=1_000.6 + ahead)
    found = clock_finding(offsets)

    assert (found.status, found.found) == (status, text)


def test_one_server_with_a_wrong_clock_is_outvoted() -> None:
    """The median decides."""
    offsets = Offsets({"a": 0.1, "b": 0.2, "c": -3_600.0})

    assert clock_finding(offsets).found == "within 0.1 s of 3 servers"
    assert clock_finding(Offsets()).status is Status.WARN


def versions(**packages: tuple[str | None, str | None]) -> Versions:
    return Versions(program="1.0", python="3.13.1", packages=packages, bundle="[4.*, 5.0.0)")


def test_versions_are_listed() -> None:
    """Those that are as they were tested are in order."""
    found = version_findings(versions(aiohttp=("1", "1")), is_python_supported=True)

    assert [(each.status, each.found) for each in found] == [
        ("ok", "aoai-meter 1.0, Python 3.13.1, extension bundle [4.*, 5.0.0)"),
        ("ok", "aiohttp 1"),
    ]


def test_other_versions_are_told() -> None:
    """One that was not tested is a warning; one that is missing fails."""
    packages = versions(aiohttp=("2", "1"), pyjwt=(None, "3"))
    found = version_findings(packages, is_python_supported=False)

    assert [(each.name, each.status, each.found) for each in found[1:]] == [
        ("python", "fail", "Python 3.13.1"),
        ("packages", "fail", "not installed: pyjwt"),
        ("packages", "warn", "not as pinned: aiohttp 2 (tested: 1)"),
    ]
