"""What meters charge for: units, and which usage is theirs."""

import pytest

from meter.reports.invoice.meaning import Meaning, unit_text
from meter.reports.pricing.book import Use
from meter.reports.pricing.kinds import Kind


def use(
    model: str = "gpt-4o-2024-11-20",
    deployment_type: str = "global",
    tier: str = "standard",
    context: str = "short",
) -> Use:
    return Use(model, "gpt-4o", deployment_type, "", tier, context)


def meaning(
    model: str = "gpt-4o-2024-11-20",
    deployment_type: str = "global",
    tier: str = "standard",
    context: str = "*",
) -> Meaning:
    return Meaning(Kind.INPUT, model, deployment_type, tier, context)


@pytest.mark.parametrize(
    ("text", "block", "unit"),
    [
        ("1K", "", "1K"),
        ("1000 ", "", "1000"),
        ("1K Tokens", "", "1K Tokens"),
        ("1/Hour", "", "1/Hour"),
        ("1 Hour", "", "1 Hour"),
        ("Units", "", "1"),
        ("Units", "1000", "1000"),
        ("Units", "1000.0000", "1000"),
        ("Units", "1E3", "1000"),
        ("Units", "many", "many"),
        ("Units/Hour", "1", "1/Hour"),
        ("Tokens", "", "1 Tokens"),
        ("Hours", "", "1 Hours"),
        ("1K Units", "", "1K"),
        ("", "1000", "1000"),
        (" ", "", ""),
    ],
)
def test_units_have_a_number_in_front(text: str, block: str, unit: str) -> None:
    """FOCUS names distinct units, and has the block size in a column of its own."""
    assert unit_text(text, block) == unit


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        (meaning(), meaning("gpt-4o")),
        (meaning("gpt-4o"), meaning("gpt-4o-2024-08-06")),
        (meaning("gpt-4o"), meaning("*")),
        (meaning(context="short"), meaning()),
        (meaning(), meaning(deployment_type="*")),
        (meaning(), meaning(tier="*")),
    ],
)
def test_the_closest_meter_is_that_of_the_usage(wanted: Meaning, other: Meaning) -> None:
    """A version before a model, a model before any, and each word of the name before none."""
    closeness = wanted.closeness(use())

    assert closeness is not None
    assert closeness > (other.closeness(use()) or (-1, -1))


@pytest.mark.parametrize(
    ("other", "used"),
    [
        (meaning("gpt-4o-mini"), use()),
        (meaning("gpt-4o-2024-08-06"), use()),
        (meaning(deployment_type="data-zone"), use()),
        (meaning(tier="batch"), use()),
        (meaning(context="long"), use()),
        (meaning(), use(tier="priority")),
        (meaning(tier="*"), use(tier="provisioned")),
    ],
)
def test_meters_of_something_else_are_not_its(other: Meaning, used: Use) -> None:
    """Provisioned use is paid by the hour, so no meter of tokens is."""
    assert other.closeness(used) is None


def test_a_dated_meter_may_be_that_of_an_unknown_version() -> None:
    """A deployment may be configured without one, and Azure bills it by what it runs."""
    assert meaning().closeness(use("gpt-4o")) == (1, 2)
    assert meaning("GPT-4o-2024-11-20").closeness(use()) == (3, 2)


def test_an_unknown_deployment_type_fits_any() -> None:
    """It is configured per backend, and may be missing."""
    assert meaning().closeness(use(deployment_type="")) == (3, 1)
