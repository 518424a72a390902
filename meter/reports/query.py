"""What a report is about: a range of windows of one period, and what its rows are grouped by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from meter.terminal.words import suggestion
from meter.window import Period, Window, window_of

_MOMENT = timedelta(microseconds=1)


class Grouping(StrEnum):
    """What rows are grouped by, beside their window: a dimension, or what is known of a subject."""

    SUBJECT = "subject"
    NAME = "name"
    TEAM = "team"
    COST_CENTRE = "cost_centre"
    CLIENT_APP = "client_app"
    DEPLOYMENT = "deployment"
    MODEL = "model"
    BACKEND = "backend"
    TIER = "tier"
    CONTEXT = "context"

    @property
    def is_joined(self) -> bool:
        """Whether it is no dimension: table `Subjects` has it."""
        return self in {Grouping.NAME, Grouping.TEAM, Grouping.COST_CENTRE}

    @property
    def column(self) -> str:
        """The dimension's column in the view tables."""
        return "".join(part.capitalize() for part in self.split("_"))


# In a table; a file has all.
INVOICE_GROUPS = (Grouping.SUBJECT, Grouping.NAME)
# The other dimensions are one value for most users, and the table is wide enough.
DEFAULT_GROUPS = (Grouping.SUBJECT, Grouping.DEPLOYMENT, Grouping.MODEL, Grouping.TIER)


class RangeError(ValueError):
    """A range that cannot be reported; `end` names its end that is wrong, `from` or `to`."""

    def __init__(self, end: str, message: str) -> None:
        super().__init__(message)
        self.end = end


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The windows of one period from `first` to `last`, both included, and the grouping."""

    first: Window
    last: Window
    groups: tuple[Grouping, ...] = ()

    @property
    def period(self) -> Period:
        """The length of the windows."""
        return self.first.period

    @property
    def is_by_month(self) -> bool:
        """Whether its windows are months, which can be closed and corrected."""
        return self.period is Period.MONTH

    def windows(self, period: Period | None = None) -> Iterator[Window]:
        """The windows in order, or those of a shorter period that they consist of."""
        period = period or self.period
        start = self.first.start
        while start < self.last.end:
            window = window_of(start, period)
            yield window
            start = window.end

    def window_of(self, part: Window) -> Window:
        """The window that a shorter one is in."""
        return Window(part.name[: len(self.first.name)])


def query_between(
    start: datetime, end: datetime, period: Period, groups: Sequence[Grouping] = ()
) -> Query:
    """The query whose windows hold all moments from `start` to before `end`."""
    return Query(
        first=window_of(start, period), last=window_of(end - _MOMENT, period), groups=tuple(groups)
    )


def make_query(
    *,
    period: Period,
    first: Window | None,
    last: Window | None,
    groups: Sequence[Grouping],
    now: datetime,
) -> Query:
    """The query for all windows from the start of `first` to the end of `last`.

    The defaults are the current month and the window that holds `now`. Raises RangeError for a
    start after the end, and for an end inside a window: its row would show more than was asked for.
    """
    is_last_alone = first is None and last is not None
    first = first or window_of(now, Period.MONTH)
    last = last or window_of(now, period)
    try:
        check_order(first, last)
    except RangeError as exc:
        if is_last_alone:
            raise RangeError("to", f"{exc}: give --from as well") from None
        raise
    if window_of(first.start, period).start != first.start:
        whole = window_of(first.start, period)
        raise RangeError("from", _inside(first, whole))
    if (whole := window_of(last.end - _MOMENT, period)).end != last.end:
        raise RangeError("to", _inside(last, whole))
    return query_between(first.start, last.end, period, groups)


def check_order(first: Window, last: Window) -> None:
    """Raise RangeError if a range would start after its end."""
    if first.start >= last.end:
        raise RangeError("from", f"the start {first.name} is after the end {last.name}")


def _inside(part: Window, whole: Window) -> str:
    return f"{part.name} is inside a {whole.period}: use --by {part.period}, or give {whole.name}"


def parse_groups(text: str) -> tuple[Grouping, ...]:
    """Read a comma-separated list of groups. Raises ValueError that says what is accepted."""
    groups: list[Grouping] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name not in tuple(Grouping):
            raise ValueError(
                f"a group is one of {', '.join(Grouping)}; got {name!r}{suggestion(name, Grouping)}"
            )
        groups.append(Grouping(name))
    if len(set(groups)) < len(groups):
        raise ValueError(f"a group is named twice in {text!r}")
    return tuple(groups)
