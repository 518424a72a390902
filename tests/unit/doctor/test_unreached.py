"""What was not asked: a reference is a warning, invalid settings are a failure."""

import pytest

from meter.doctor.finding import Area, Examined, Status
from meter.doctor.unreached import unasked


@pytest.mark.parametrize("what", ["key", "connection"])
def test_what_only_azure_resolves_is_a_warning(what: str) -> None:
    """A laptop cannot know it; the app can."""
    finding = unasked(Examined(area=Area.HUB, name="usage"), is_reference=True, what=what)

    assert (finding.status, finding.name) == (Status.WARN, "usage")
    assert finding.found.startswith(f"not checked: its {what} is a reference")
    assert "GET /doctor" in finding.advice


def test_what_is_not_valid_is_a_failure() -> None:
    """The findings about the settings say more."""
    finding = unasked(Examined(area=Area.HUB, name="usage"), is_reference=False, what="key")

    assert (finding.status, finding.found) == (
        Status.FAIL,
        "not checked: its settings are not valid",
    )
