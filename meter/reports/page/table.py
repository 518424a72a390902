"""The rows of the page's table as columns: texts by their place in a list, amounts as whole numbers.

A column that says nothing (all its values are 0 or empty) is left out. Ten thousand subjects on 31
days are 310,000 rows, so texts are stored once and their places as differences, which pack well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from operator import add

from meter.ledger.fold import total_sums
from meter.reports.columns import Column, Value, usage_columns
from meter.reports.pricing.money import exact_decimal
from meter.reports.query import Grouping, Query
from meter.reports.rows import Charge, UsageRow
from meter.terminal import printable
from meter.window import Period, Window

type Json = dict[str, object]

_MOST_EXACT = 2**53 - 1  # of a number in JSON that JavaScript reads
_SHOWN = {
    *("calls", "failed_calls", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("total_tokens", "estimated_calls", "missing_calls", "adjustments"),
    *("adjusted_total_tokens", "net_total_tokens", "adjusted_cost", "cost"),
}
_KEPT = {"calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost"}
_LEFT_OUT = {"currency", "first_call_at", "last_call_at"}
# Net counts are those of calls where there are no adjustments: the column is left out then.
_OF_ADJUSTMENTS = ("adjust", "net_")
_SUM_OF = ("prompt_tokens", "completion_tokens")


class TableRows:
    """Puts the parts of a window's groups together, and keeps them by column."""

    def __init__(self, query: Query, read: Query, currency: str | None) -> None:
        self.count = 0
        self._query = query
        self._places = [read.groups.index(group) for group in query.groups]
        columns = usage_columns(query, currency, has_corrections=True)
        self._labels = len(query.groups) + 1
        self._columns = [_Filled(each) for each in columns if not _is_left_out(each)]
        self._window: Window | None = None
        self._open: dict[tuple[Window | None, tuple[str, ...]], list[UsageRow]] = {}

    def add(self, row: UsageRow) -> None:
        """Add a row of a window, or of a part of it, and of finer groups. Windows come in order."""
        assert row.window is not None
        window = self._query.window_of(row.window)
        if window != self._window:
            self._flush()
            self._window = window
        names = tuple(map(row.names.__getitem__, self._places))
        self._open.setdefault((row.corrects, names), []).append(row)

    def columns(self) -> list[Json]:
        """All columns that say something, in order."""
        self._flush()
        by_name = {each.column.name: each for each in self._columns}
        labels, others = self._columns[: self._labels], self._columns[self._labels :]
        others.sort(key=lambda each: each.column.name != "cost")  # first, as what most look for
        return [
            each.document(self._sum_of(each, by_name))
            for place, each in enumerate([*labels, *others])
            if place < self._labels or each.column.name in _KEPT or not each.is_empty
            if not each.column.name.startswith("net_") or not by_name["adjustments"].is_empty
        ]

    def _flush(self) -> None:
        rows = [
            _added(parts, self._window, names, corrects)
            for (corrects, names), parts in sorted(self._open.items(), key=_order)
        ]
        is_adjusted = any(row.sums.adjustments for row in rows)
        for each in self._columns:
            each.take(rows, is_adjusted=is_adjusted)
        self.count += len(rows)
        self._open.clear()

    def _sum_of(self, column: "_Filled", by_name: dict[str, "_Filled"]) -> tuple[str, ...]:
        """The columns whose sum it is in every row."""
        if column.column.name != "total_tokens":
            return ()
        prompt, completion = (by_name[name].values for name in _SUM_OF)
        is_sum = column.values == list(map(add, prompt, completion))
        return _SUM_OF if is_sum else ()


def _order(
    found: tuple[tuple[Window | None, tuple[str, ...]], object],
) -> tuple[str, tuple[str, ...]]:
    (corrects, names), _ = found
    return (corrects.name if corrects else "", names)


def _added(
    rows: Sequence[UsageRow],
    window: Window | None,
    names: tuple[str, ...],
    corrects: Window | None,
) -> UsageRow:
    """The row of a group; its share of the window's cost is left to the reader."""
    charge = rows[0].charge
    if charge is not None and len(rows) > 1:
        charge = Charge()
        for each in rows:
            if each.charge is not None:
                charge.add(each.charge)
    sums = total_sums([each.sums for each in rows])
    return UsageRow(window=window, names=names, sums=sums, charge=charge, corrects=corrects)


def _is_left_out(column: Column) -> bool:
    return column.name in _LEFT_OUT or column.name.endswith("_percent")


@dataclass(slots=True)
class _Filled:
    """A column and its values: the places of texts, whole numbers, or exact amounts."""

    column: Column
    values: list[int | Decimal | None] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    _get: Callable[[UsageRow], Value] = field(init=False)

    def __post_init__(self) -> None:
        self._get = self.column.get

    def take(self, rows: Sequence[UsageRow], *, is_adjusted: bool) -> None:
        """Take the values of a window's rows: there are many, and few columns are ever filled."""
        if self.column.name.startswith(_OF_ADJUSTMENTS) and not is_adjusted:
            self.values += [None if self.column.currency else 0] * len(rows)
        elif self.column.is_text or self.column.currency is not None:
            self.values += [self._value(self._get(row)) for row in rows]
        else:
            self.values += map(self._get, rows)  # type: ignore[arg-type]  # counts are whole numbers

    def _value(self, value: Value) -> int | Decimal | None:
        match value:
            case Fraction():
                return exact_decimal(value)
            case str():
                return self.places.setdefault(value, len(self.places))
            case tuple():
                return self.places.setdefault(", ".join(value), len(self.places))
            case _:
                return value

    @property
    def is_empty(self) -> bool:
        return not any(self.values) and set(self.places) <= {""}

    def document(self, sum_of: tuple[str, ...]) -> Json:
        name = self.column.name
        head: Json = {"name": name, "heading": _heading(self.column)}
        if self.column.is_text:
            is_told = name in tuple(Period) and len(self.places) == 1  # by the page's title
            head |= {"type": "text", "shown": not is_told, "texts": list(self.places)}
            head["codes"] = _differences([value for value in self.values if isinstance(value, int)])
            head["printed"] = _printed(self.places)
            return head
        head["shown"] = name in _SHOWN
        if self.column.currency is not None:
            return head | {"type": "amount"} | _scaled(self.values)
        if sum_of:
            return head | {"type": "count", "sumOf": list(sum_of)}
        return head | {"type": "count", "numbers": self.values}


def _differences(values: Sequence[int]) -> list[int]:
    return [*values[:1], *(after - before for before, after in pairwise(values))]


def _printed(texts: Iterable[str]) -> Json:
    """How texts with signs that cannot be seen are shown, by their place."""
    return {
        str(place): printable(text) for place, text in enumerate(texts) if not text.isprintable()
    }


def _scaled(values: Sequence[int | Decimal | None]) -> Json:
    """The amounts as whole numbers of a unit of so many digits: texts if one is too large."""
    amounts = [None if value is None else Decimal(value) for value in values]
    digits = max((_digits(each) for each in amounts if each is not None), default=0)
    numbers = list(_whole(amounts, digits))
    if any(number is not None and abs(number) > _MOST_EXACT for number in numbers):
        texts = [None if number is None else str(number) for number in numbers]
        return {"digits": digits, "numbers": texts}
    return {"digits": digits, "numbers": numbers}


def _digits(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def _whole(amounts: Iterable[Decimal | None], digits: int) -> Iterator[int | None]:
    for each in amounts:
        if each is None:
            yield None
        else:
            numerator, denominator = each.as_integer_ratio()
            yield numerator * 10**digits // denominator


def _heading(column: Column) -> str:
    if column.name == "cost":
        return f"cost {column.currency}"
    if column.name in tuple(Grouping):
        return column.name.replace("_", " ")
    return column.name.removesuffix("_tokens").removesuffix("_calls").replace("_", " ")
