"""Which months an export writes, and up to which day.

| the month                                            | a run without a range                          |
|------------------------------------------------------|------------------------------------------------|
| is final in the manifest                             | never writes it again                          |
| is closed                                            | writes it from the closed numbers, as final    |
| runs, or ended less than `SETTLING` ago              | makes all its files, replaces those that differ |
| ended earlier, and late calls may still count        | the same, if its sums by month have changed    |
| takes no calls any more, or is older than `MOST_MONTHS` | leaves it alone; `--month` writes it         |

Late calls count as long as their ledger is kept, so that nothing they change is ever missed; a month
whose sums are the same has the same days, since no call moves from one day to another.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter.errors import ExportRefused
from meter.reports.export.manifest import Manifest
from meter.window import Period, Window, window_of

MOST_MONTHS = 13
# The sweep and rebuilds repair views of days and of months one by one, most of them soon.
SETTLING = timedelta(days=7)
# As the retention timer has it: batches that were read a moment before, and clocks that differ.
MARGIN = timedelta(days=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthPlan:
    """A month to write: its finished days, and whether it is for good.

    `is_settled`: only if its sums have changed. `is_asked`: also without any calls.
    """

    month: Window
    last_day: Window | None
    is_final: bool = False
    is_settled: bool = False
    is_asked: bool = False

    def days(self) -> Iterator[Window]:
        """The finished days."""
        day = window_of(self.month.start, Period.DAY)
        while self.last_day is not None and day <= self.last_day:
            yield day
            day = window_of(day.end, Period.DAY)


def due_months(
    *, now: datetime, retention: timedelta, closed: Collection[Window], manifest: Manifest | None
) -> list[MonthPlan]:
    """The months that a night's run writes, in order."""
    month = window_of(now, Period.MONTH)
    months: set[Window] = set()
    while len(months) < MOST_MONTHS and (not months or now - month.end <= retention + MARGIN):
        months.add(month)
        month = window_of(month.start - _DAY, Period.MONTH)
    if manifest is not None:
        # A month that was closed late, after its last call could count.
        months |= {entry.month for entry in manifest.files} & set(closed)
        months = {each for each in months if not manifest.is_final(each)}
    return [_plan(each, now, closed) for each in sorted(months)]


def month_asked(
    wanted: Window, *, now: datetime, closed: Collection[Window], manifest: Manifest | None
) -> MonthPlan | None:
    """The plan for a month, or the month of a day; None if it is final already.

    Raises ExportRefused for a month that has not begun, and a day that is not over.
    """
    if wanted.period is Period.DAY and wanted.end > now:
        raise ExportRefused(f"{wanted.name} is not over yet (UTC): its file is written afterwards")
    if wanted.start > now:
        raise ExportRefused(f"{wanted.name} has not begun yet (UTC)")
    if manifest is not None and manifest.is_final(wanted.month):
        return None
    plan = _plan(wanted.month, now, closed)
    return MonthPlan(
        month=plan.month, last_day=plan.last_day, is_final=plan.is_final, is_asked=True
    )


def last_finished_day(now: datetime) -> Window:
    """Yesterday, UTC."""
    return window_of(now - _DAY, Period.DAY)


def _plan(month: Window, now: datetime, closed: Collection[Window]) -> MonthPlan:
    last = min(last_finished_day(now), window_of(month.end - _DAY, Period.DAY))
    return MonthPlan(
        month=month,
        last_day=last if last.month == month else None,
        is_final=month in closed,
        is_settled=month not in closed and now - month.end > SETTLING,
    )
