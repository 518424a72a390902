"""The columns of a usage report, from which every writer takes names, headings and values.

The counts of `TokenUsage` name their own columns: a new kind needs no line here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter

from meter.ledger.fold import Sums
from meter.reports.query import Query
from meter.usage import COUNT_NAMES, format_time
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name in files, its heading in the table for people, and its values.

    Files hold all columns; the table shows those with a heading, the optional ones only if a
    value is not 0. Texts have no total.
    """

    name: str
    heading: str
    get: Callable[[UsageRow], Value]
    is_text: bool = False
    is_optional: bool = False


def usage_columns(query: Query) -> tuple[Column, ...]:
    """The columns of a usage report, in order."""
    return (*map(_label, range(1 + len(query.groups)), (query.period, *query.groups)), *_SUMS)


def _label(place: int, name: str) -> Column:
    def get(row: UsageRow) -> str:
        texts = (row.label, *row.names)
        return texts[place] if place < len(texts) else ""

    return Column(name=name, heading=_heading(name), get=get, is_text=True)


def _heading(name: str) -> str:
    words = name.removesuffix("_tokens").removesuffix("_calls").replace("_", " ")
    return words.replace(" completion", " compl.")


def _count(name: str, heading: str, path: str) -> Column:
    is_optional = name not in {"calls", "prompt_tokens", "completion_tokens", "total_tokens"}
    get = attrgetter(f"sums.{path}")
    return Column(name=name, heading=heading, get=get, is_optional=is_optional)


def _used(name: str) -> Column:
    return _count(name, _heading(name), f"tokens.{name}")


def _adjusted(name: str) -> Column:
    return _count(f"adjusted_{name}", _heading(f"adj. {name}"), f"adjusted.{name}")


def _moment(name: str) -> Column:
    def get(row: UsageRow) -> str:
        moment: datetime | None = getattr(row.sums, name)
        return format_time(moment) if moment else ""

    return Column(name=name, heading="", get=get, is_text=True)


_SUMS = (
    _count("calls", "calls", "calls"),
    _count("failed_calls", "failed", "failed_calls"),
    *map(_used, COUNT_NAMES),
    _count("estimated_calls", "estimated", "estimated_calls"),
    _count("missing_calls", "missing", "missing_calls"),
    _count("adjustments", "adjustments", "adjustments"),
    *map(_adjusted, COUNT_NAMES),
    _moment("first_call_at"),
    _moment("last_call_at"),
)
