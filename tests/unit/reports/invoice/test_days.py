"""The days of exports."""

from datetime import date

import pytest

from meter.reports.invoice.days import parse_day


@pytest.mark.parametrize(
    "text",
    [
        "10/02/2026",
        "10/2/2026",
        "2026-10-02",
        "20261002",
        "2026-10-02T00:00Z",
        "2026-10-02T00:00:00Z",
        "2026-10-02T00:00:00",
        "2026-10-02 00:00:00.000",
        "10/02/2026 12:00:00 AM",
        " 2026-10-02 ",
        "2026-10-02T23:00:00+00:00",
    ],
)
def test_the_forms_that_azure_writes_are_read(text: str) -> None:
    """Usage details have the month first; FOCUS 1.0 has no seconds, 1.0r2 has."""
    assert parse_day(text) == date(2026, 10, 2)


@pytest.mark.parametrize(
    "text", ["", "13/10/2026", "2026-02-30", "02.10.2026", "2026-10-02T00:00:00+02:00", "Oct 2"]
)
def test_other_forms_are_refused(text: str) -> None:
    """A day first would be taken for a month."""
    with pytest.raises(ValueError, match="MM/DD/YYYY or YYYY-MM-DD"):
        parse_day(text)
