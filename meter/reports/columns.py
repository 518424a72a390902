"""The columns of a usage report, from which every writer takes names, headings and values.

The counts of `TokenUsage` name their own columns: a new kind of token needs no line here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from operator import attrgetter

from meter.ledger.fold import Sums
from meter.reports.query import Grouping, Query
from meter.usage import TokenUsage, format_time
from meter.window import Window

type Value = int | Decimal | str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """The usage of one group in one window. The total of all rows has no window and no names."""

    window: Window | None = None
    names: tuple[str, ...] = ()
    sums: Sums = field(default_factory=Sums)

    @property
    def label(self) -> str:
        """The window's name, or `total`."""
        return self.window.name if self.window else "total"

    def __add__(self, other: "UsageRow") -> "UsageRow":
        return UsageRow(sums=self.sums + other.sums)


class Shown(Enum):
    """When the table for people shows a column. Files hold all of them."""

    ALWAYS = auto()
    IF_USED = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name in files, its heading in the table, and how to get it from a row.

    It gets a text from every row or a number from every row. Texts have no total.
    """

    name: str
    heading: str
    shown: Shown
    get: Callable[[UsageRow], Value]


def usage_columns(query: Query) -> tuple[Column, ...]:
    """The columns of a usage report, in order."""
    window = _column(query.period, lambda row: row.label)
    return (window, *map(_group, range(len(query.groups)), query.groups), *_COUNTS, *_MOMENTS)


def _group(place: int, group: Grouping) -> Column:
    return _column(group, lambda row: row.names[place] if row.names else "")


def _column(
    name: str, get: Callable[[UsageRow], Value], *, heading: str = "", shown: Shown = Shown.ALWAYS
) -> Column:
    return Column(name=str(name), heading=heading or str(name), shown=shown, get=get)


def _count(path: str, heading: str, *, shown: Shown = Shown.IF_USED) -> Column:
    name = path.removeprefix("tokens.").replace(".", "_")
    return _column(name, attrgetter(f"sums.{path}"), heading=heading, shown=shown)


def _tokens(name: str) -> Column:
    shown = Shown.ALWAYS if name in _MAIN_TOKENS else Shown.IF_USED
    return _count(f"tokens.{name}", name.removesuffix("_tokens").replace("_", " "), shown=shown)


def _moment(name: str) -> Column:
    def get(row: UsageRow) -> str:
        moment: datetime | None = getattr(row.sums, name)
        return format_time(moment) if moment else ""

    return _column(name, get, shown=Shown.NEVER)


_MAIN_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_COUNTS = (
    _count("calls", "calls", shown=Shown.ALWAYS),
    _count("failed_calls", "failed"),
    *(_tokens(each.name) for each in fields(TokenUsage)),
    _count("estimated_calls", "estimated"),
    _count("missing_calls", "missing"),
    _count("adjustments", "adjustments"),
    _count("adjusted.prompt_tokens", "adj. prompt"),
    _count("adjusted.completion_tokens", "adj. compl."),
    _count("adjusted.total_tokens", "adj. total"),
)
_MOMENTS = (_moment("first_call_at"), _moment("last_call_at"))
