"""What a page reads."""

import pytest

from meter.ports import Row
from meter.reports.page.terms import PAGE_GROUPS, PageTerms, chart_period
from meter.window import Window
from tests.support.reports import query


@pytest.mark.parametrize(
    ("by", "first", "last", "charts", "read"),
    [
        ("day", "2026-11-01", "2026-11-03", "hour", "hour"),
        ("day", "2026-11-01", "2026-11-04", "day", "day"),
        ("hour", "2026-11-01", "2026-11-30", "day", "hour"),
        ("month", "2026-11", "2026-11", "day", "day"),
        ("month", "2026-01", "2026-12", "month", "month"),
        ("day", "2026-01", "2026-12", "month", "day"),
    ],
)
def test_charts_and_table_are_read_at_once(
    by: str, first: str, last: str, charts: str, read: str
) -> None:
    """In the shorter of their windows, by all that the page adds up."""
    wanted = query(by, first, last, groups="context")
    terms = PageTerms(query=wanted)

    assert (chart_period(wanted), terms.read.period) == (charts, read)
    assert terms.read.groups[:-1] == PAGE_GROUPS
    assert terms.read.groups[-1] == "context"
    assert terms.read.first.start == wanted.first.start
    assert terms.read.last.end == wanted.last.end


def test_corrections_come_with_the_last_day_of_their_month() -> None:
    """They belong to a month as a whole, and the table's rows are months."""
    found = [(Window("2026-10-30"), Row(key="alice", columns={}))]

    placed = PageTerms(query=query("month")).placed({Window("2026-11"): found})

    assert placed == {Window("2026-11-30"): found}
