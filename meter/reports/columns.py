"""The columns of a usage report, from which every writer takes names, headings and values.

The counts of `TokenUsage` name their own columns: a new kind needs no line here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from fractions import Fraction
from operator import attrgetter
from typing import Protocol

from meter.reports.pricing.money import exact_decimal
from meter.reports.query import Query
from meter.reports.rows import UsageRow
from meter.usage import COUNT_NAMES, format_time

type Value = int | Decimal | Fraction | str | tuple[str, ...] | None
"""An amount of money is a fraction, a percentage a decimal; None is not known."""


class Cells(Enum):
    """What a column's values are, for files that have types."""

    COUNT = auto()
    NUMBER = auto()
    """A decimal number that is no money."""
    AMOUNT = auto()
    PERCENTAGE = auto()
    TEXT = auto()
    TEXTS = auto()
    DAY = auto()
    """A date as ISO 8601 writes it."""
    WINDOW = auto()
    """The name of a month, a day or an hour; a total has another text."""
    MOMENT = auto()
    """A moment as `format_time` writes it; empty where there is none."""

    @property
    def is_text(self) -> bool:
        """Whether people read it as text."""
        return self in _TEXTS


_TEXTS = {Cells.TEXT, Cells.TEXTS, Cells.DAY, Cells.WINDOW, Cells.MOMENT}


class FileColumn(Protocol):
    """What a file with types needs to know of a column; amounts have a currency."""

    @property
    def name(self) -> str:
        """Its heading."""

    @property
    def cells(self) -> Cells:
        """What its values are."""

    @property
    def currency(self) -> str | None:
        """In which its amounts are."""

    @property
    def is_optional(self) -> bool:
        """Whether nobody misses it where all its values are 0 or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name in files, its heading in the table for people, and its values.

    Files hold all columns; the table shows those with a heading, the optional ones only if a
    value is not 0, with their texts in the words of `shown`. A column of amounts has their `currency`;
    one that somebody asked for, `is_asked`, is shown whatever it holds.
    """

    name: str
    heading: str
    get: Callable[[UsageRow], Value]
    cells: Cells = Cells.COUNT
    is_optional: bool = False
    has_total: bool = True
    currency: str | None = None
    shown: str = "{}"
    is_asked: bool = False

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.cells.is_text


def usage_columns(
    query: Query, currency: str | None = None, *, has_corrections: bool = False
) -> tuple[Column, ...]:
    """The columns of a usage report, in order; with a currency those of what it is charged, too."""
    labels = [*_labels(query), *([_CORRECTS] if has_corrections else [])]
    if currency is None:
        return (*labels, *_SUMS)
    return (*labels, *map(_narrow, _SUMS), *_money(currency))


def _labels(query: Query) -> Iterator[Column]:
    """The window and what rows are grouped by."""
    window, *names = (
        _label(place, name) for place, name in enumerate((query.period, *query.groups))
    )
    is_told = query.first == query.last and query.groups  # by the first line of a table
    window = replace(window, cells=Cells.WINDOW)
    yield replace(window, heading="") if is_told else window
    yield from names


def _corrects(row: UsageRow) -> str:
    return row.corrects.name if row.corrects else ""


_CORRECTS = Column(
    name="corrections_of",
    heading="corrections",
    get=_corrects,
    cells=Cells.TEXT,
    is_optional=True,
    has_total=False,
    shown="corrections of {}",
)


def _label(place: int, name: str) -> Column:
    def get(row: UsageRow) -> str:
        texts = (row.label, *row.names)
        return texts[place] if place < len(texts) else ""

    return Column(name=name, heading=heading_of(name), get=get, cells=Cells.TEXT, has_total=False)


def heading_of(name: str) -> str:
    """The heading of a column in the table for people."""
    words = name.removesuffix("_tokens").removesuffix("_calls").replace("_", " ")
    return words.replace(" completion", " compl.")


def _count(name: str, heading: str, path: str) -> Column:
    is_optional = name not in {"calls", "prompt_tokens", "completion_tokens", "total_tokens"}
    get = attrgetter(f"sums.{path}")
    return Column(name=name, heading=heading, get=get, is_optional=is_optional)


def _used(name: str) -> Column:
    return _count(name, heading_of(name), f"tokens.{name}")


def _adjusted(name: str) -> Column:
    return _count(f"adjusted_{name}", heading_of(f"adj. {name}"), f"adjusted.{name}")


def _net(name: str) -> Column:
    """What is to be charged: a count and its adjustment. The table has both, and can do without."""
    place = COUNT_NAMES.index(name)

    def get(row: UsageRow) -> int:
        sums = row.sums
        return sums.tokens[place] + sums.adjusted[place]

    return Column(name=f"net_{name}", heading="", get=get, is_optional=True)


def _moment(name: str) -> Column:
    def get(row: UsageRow) -> str:
        moment: datetime | None = getattr(row.sums, name)
        return format_time(moment) if moment else ""

    return Column(name=name, heading="", get=get, cells=Cells.MOMENT, has_total=False)


_SUMS = (
    _count("calls", "calls", "calls"),
    _count("failed_calls", "failed", "failed_calls"),
    *map(_used, COUNT_NAMES),
    _count("estimated_calls", "estimated", "estimated_calls"),
    _count("missing_calls", "missing", "missing_calls"),
    _count("adjustments", "adjustments", "adjustments"),
    *map(_adjusted, COUNT_NAMES),
    *map(_net, COUNT_NAMES),
    _moment("first_call_at"),
    _moment("last_call_at"),
)
# Of these counts a table with money has a column: the others are what the money is made of.
_BESIDE_MONEY = {"calls", "total_tokens", "adjusted_total_tokens"}


def _narrow(column: Column) -> Column:
    return column if column.name in _BESIDE_MONEY else replace(column, heading="")


def _money(currency: str) -> Iterator[Column]:
    """What usage is charged, and how sure its counts are."""
    yield _percentage("estimated_percent", "estimated", _share_of_calls("estimated_calls"))
    yield _percentage("missing_percent", "missing", _share_of_calls("missing_calls"))
    yield Column(
        name="adjusted_cost",
        heading="adj. cost",
        get=_adjusted_cost,
        cells=Cells.AMOUNT,
        is_optional=True,
        currency=currency,
    )
    yield Column(
        name="cost",
        heading=f"cost {currency}",
        get=lambda row: row.cost,
        cells=Cells.AMOUNT,
        currency=currency,
    )
    yield Column(name="currency", heading="", get=lambda _: currency, cells=Cells.TEXT)
    yield replace(_percentage("share_percent", "share", _share_of_cost), has_total=False)
    yield Column(
        name="unpriced",
        heading="no price for",
        get=_unpriced,
        cells=Cells.TEXTS,
        is_optional=True,
    )


def _adjusted_cost(row: UsageRow) -> Fraction | None:
    return None if row.charge is None else row.charge.adjusted.cost


def _unpriced(row: UsageRow) -> tuple[str, ...]:
    return () if row.charge is None else tuple(row.charge.bill.unpriced_kinds)


def _share_of_cost(row: UsageRow) -> Fraction | None:
    return None if row.charge is None else row.charge.share


def _share_of_calls(name: str) -> Callable[[UsageRow], Fraction | None]:
    def get(row: UsageRow) -> Fraction | None:
        return Fraction(getattr(row.sums, name), row.sums.calls) if row.sums.calls else None

    return get


def _percentage(name: str, heading: str, share: Callable[[UsageRow], Fraction | None]) -> Column:
    def get(row: UsageRow) -> Decimal | None:
        found = share(row)
        return None if found is None else exact_decimal(round(100 * found, _PERCENT_DIGITS))

    return Column(
        name=name,
        heading=heading,
        get=get,
        cells=Cells.PERCENTAGE,
        is_optional=heading != "share",
    )


_PERCENT_DIGITS = 4
