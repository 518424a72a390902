"""The query of a report: its windows and groups, and texts that are none."""

import re

import pytest

from meter.ledger.keys import DIMENSION_NAMES
from meter.ledger.rows import SUM_COLUMNS
from meter.reports.query import Grouping
from tests.support.reports import query


@pytest.mark.parametrize(
    ("by", "first", "last", "expected"),
    [
        ("month", None, None, ("2026-11", "2026-11")),
        ("day", None, None, ("2026-11-01", "2026-11-23")),
        ("hour", None, None, ("2026-11-01T00", "2026-11-23T07")),
        ("hour", "2026-02", "2026-02", ("2026-02-01T00", "2026-02-28T23")),
        ("hour", "2028-02-29", "2028-02-29", ("2028-02-29T00", "2028-02-29T23")),
        ("day", "2025-12", "2026-01", ("2025-12-01", "2026-01-31")),
        ("day", "2026-11-23T00", "2026-11-24T23", ("2026-11-23", "2026-11-24")),
        ("month", "2026-11-01", "2026-12-31T23", ("2026-11", "2026-12")),
    ],
)
def test_a_query_holds_all_of_the_periods_it_names(
    by: str, first: str | None, last: str | None, expected: tuple[str, str]
) -> None:
    """The default is from this month to now; a day means its hours, a month its days."""
    found = query(by, first, last)

    assert (found.first.name, found.last.name) == expected


def test_every_dimension_of_the_sums_is_a_grouping() -> None:
    """In the dimensions' own order, each by the column that the tables have for it."""
    dimensions = [each for each in Grouping if not each.is_joined]
    assert tuple(dimensions) == DIMENSION_NAMES
    assert {each.column for each in dimensions} < SUM_COLUMNS
    assert Grouping.CLIENT_APP.column == "ClientApp"


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        (
            {"first": "last week"},
            "YYYY-MM-DD or YYYY-MM-DDTHH in UTC from 2000 on, got 'last week'",
        ),
        (
            {"last": "2026-11-31"},
            "YYYY-MM-DD or YYYY-MM-DDTHH in UTC from 2000 on, got '2026-11-31'",
        ),
        (
            {"groups": "app"},
            "one of subject, name, team, cost_centre, client_app, deployment, model, backend, tier, "
            "context; got 'app'",
        ),
        ({"groups": "tier,model,tier"}, "twice in 'tier,model,tier'"),
        (
            {"by": "month", "first": "2026-11-01", "last": "2026-11-02"},
            "2026-11-02 is inside a month: use --by day, or give 2026-11",
        ),
        (
            {"by": "month", "first": "2026-11-02", "last": "2026-11"},
            "2026-11-02 is inside a month: use --by day, or give 2026-11",
        ),
        (
            {"by": "day", "first": "2026-11-22", "last": "2026-11-22T11"},
            "2026-11-22T11 is inside a day: use --by hour, or give 2026-11-22",
        ),
        (
            {"by": "month", "first": "2026-10-31T23", "last": "2026-11"},
            "2026-10-31T23 is inside a month: use --by hour, or give 2026-10",
        ),
        (
            {"by": "day", "first": "2026-11-23", "last": "2026-11-22"},
            "the start 2026-11-23 is after the end 2026-11-22",
        ),
        (
            {"last": "2026-10"},
            "the start 2026-11 is after the end 2026-10: give --from as well",
        ),
    ],
)
def test_an_error_says_what_is_accepted(changes: dict[str, str], accepted: str) -> None:
    """The message alone is enough to correct the query: a range is never widened in silence."""
    with pytest.raises(ValueError, match=re.escape(accepted)):
        query(**changes)
