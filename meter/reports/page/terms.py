"""What a page is asked for beside its report: the table's groups, a budget; and what it reads for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from meter.ports import Row
from meter.reports.query import DEFAULT_GROUPS, Grouping, Query, query_between
from meter.window import Period, Window, window_of

# Whatever the table shows, the page adds up the usage by each of these.
PAGE_GROUPS = tuple(group for group in Grouping if group is not Grouping.CONTEXT)
_HOURS_UP_TO_DAYS = 3
_DAYS_UP_TO_DAYS = 186


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTerms:
    """The query whose rows the table shows, the budget of a calendar month, and our version.

    The budget is in the currency of the report's prices.
    """

    query: Query
    budget: Decimal | None = None
    version: str = ""

    @property
    def read(self) -> Query:
        """What to read for the page: the same range in finer parts, by all groups."""
        query, lengths = self.query, list(Period)
        period = min(query.period, chart_period(query), key=lengths.index)
        groups = (*PAGE_GROUPS, *(group for group in query.groups if group not in PAGE_GROUPS))
        return query_between(query.first.start, query.last.end, period, groups)

    def placed(
        self, corrections: Mapping[Window, Sequence[tuple[Window, Row]]]
    ) -> Mapping[Window, Sequence[tuple[Window, Row]]]:
        """Corrections of months as a report in parts of months takes them: by a month's last part."""
        period = self.read.period
        if period is Period.MONTH:
            return corrections
        return {_last_part(month, period): rows for month, rows in corrections.items()}


def chart_period(query: Query) -> Period:
    """The length of the windows that the page's charts have for such a range."""
    days = (query.last.end - query.first.start).days
    if days <= _HOURS_UP_TO_DAYS and query.period is not Period.MONTH:
        return Period.HOUR
    return Period.DAY if days <= _DAYS_UP_TO_DAYS else Period.MONTH


def _last_part(month: Window, period: Period) -> Window:
    part = window_of(month.start, period)
    length = part.end - part.start
    return window_of(month.end - length, period)


def default_terms(query: Query) -> PageTerms:
    """The terms for a report that was read with whatever groups."""
    groups = tuple(group for group in DEFAULT_GROUPS if group in query.groups)
    return PageTerms(query=replace(query, groups=groups))
