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


class ColumnKind(Enum):
    """What a column holds: a text, an int or a Decimal. Texts have no total."""

    TEXT = auto()
    COUNT = auto()
    AMOUNT = auto()


class Shown(Enum):
    """When the table for people shows a column. Files hold all of them."""

    ALWAYS = auto()
    IF_USED = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name in files, its heading in the table, and how to get it from a row."""

    name: str
    heading: str
    kind: ColumnKind
    shown: Shown
    get: Callable[[UsageRow], Value]


def usage_columns(query: Query) -> tuple[Column, ...]:
    """The columns of a usage report, in order."""
    window = _text(query.period, lambda row: row.label)
    return (window, *map(_group, range(len(query.groups)), query.groups), *_COUNTS, *_MOMENTS)


def _group(place: int, group: Grouping) -> Column:
    return _text(group, lambda row: row.names[place] if row.names else "")


def _text(name: str, get: Callable[[UsageRow], str], *, shown: Shown = Shown.ALWAYS) -> Column:
    return Column(name=str(name), heading=str(name), kind=ColumnKind.TEXT, shown=shown, get=get)


def _count(name: str, heading: str, path: str) -> Column:
    shown = Shown.ALWAYS if name in _ALWAYS_SHOWN else Shown.IF_USED
    get = attrgetter(f"sums.{path}")
    return Column(name=name, heading=heading, kind=ColumnKind.COUNT, shown=shown, get=get)


def _tokens(name: str) -> Column:
    return _count(name, name.removesuffix("_tokens").replace("_", " "), f"tokens.{name}")


def _time(moment: datetime | None) -> str:
    return format_time(moment) if moment else ""


_ALWAYS_SHOWN = frozenset({"calls", "prompt_tokens", "completion_tokens", "total_tokens"})
_COUNTS = (
    _count("calls", "calls", "calls"),
    _count("failed_calls", "failed", "failed_calls"),
    *(_tokens(each.name) for each in fields(TokenUsage)),
    _count("estimated_calls", "estimated", "estimated_calls"),
    _count("missing_calls", "missing", "missing_calls"),
    _count("adjustments", "adjustments", "adjustments"),
    _count("adjusted_prompt_tokens", "adj. prompt", "adjusted.prompt_tokens"),
    _count("adjusted_completion_tokens", "adj. compl.", "adjusted.completion_tokens"),
    _count("adjusted_total_tokens", "adj. total", "adjusted.total_tokens"),
)
_MOMENTS = (
    _text("first_call_at", lambda row: _time(row.sums.first_call_at), shown=Shown.NEVER),
    _text("last_call_at", lambda row: _time(row.sums.last_call_at), shown=Shown.NEVER),
)
