"""The stored columns of a sum. A view row has all of them, a ledger row no counts of 0.

| column                                  | type     | meaning                                       |
|-----------------------------------------|----------|-----------------------------------------------|
| Subject, ClientApp, Deployment, Model, Backend, Tier, Context | String | the dimensions, unescaped |
| Region, DeploymentType                  | String   | of the latest call; empty where not known     |
| WindowStart                             | DateTime | first moment of the hour, day or month, UTC   |
| Calls                                   | Int64    | every counted call                            |
| FailedCalls                             | Int64    | of them, refused or failed                    |
| EstimatedCalls, MissingCalls            | Int64    | of them, with estimated or unknown tokens     |
| PromptTokens, ... CodeInterpreterCalls  | Int64    | one column for each count of `TokenUsage`     |
| FirstCallAt, LastCallAt                 | DateTime | ends of the first and the last call           |
| Adjustments                             | Int64    | adjustments; absent where there were none     |
| AdjustedPromptTokens, ...               | Int64    | their signed counts, one for each count above |
| Revision                                | Int64    | how often the sum was written; only grows     |
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping
from datetime import datetime
from itertools import compress
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from meter.errors import LedgerDamaged
from meter.ledger.fold import Sums
from meter.ledger.keys import (
    DIMENSION_NAMES,
    Dimensions,
    SumKey,
    escape,
    ledger_table,
    parse_sum_key,
)
from meter.ports import INT64, Row
from meter.usage import COUNT_NAMES, NO_USAGE, TokenUsage
from meter.window import Window


def _column(field_name: str) -> str:
    return "".join(part.capitalize() for part in field_name.split("_"))


_DIMENSION_COLUMNS = {name: _column(name) for name in DIMENSION_NAMES}
KEY_COLUMNS = (*_DIMENSION_COLUMNS.values(), "WindowStart")
DIMENSION_COLUMNS = frozenset(_DIMENSION_COLUMNS.values())
PLACE_COLUMNS = ("Region", "DeploymentType")
_CALL_COLUMNS = {
    name: _column(name) for name in ("calls", "failed_calls", "estimated_calls", "missing_calls")
}
_TOKEN_COLUMNS = {name: _column(name) for name in COUNT_NAMES}
_ADJUSTED_COLUMNS = {name: f"Adjusted{column}" for name, column in _TOKEN_COLUMNS.items()}
ADJUSTMENT_COLUMNS = frozenset({"Adjustments", *_ADJUSTED_COLUMNS.values()})

SUM_COLUMNS = frozenset(
    {
        "WindowStart",
        "FirstCallAt",
        "LastCallAt",
        "Revision",
        *_DIMENSION_COLUMNS.values(),
        *PLACE_COLUMNS,
        *_CALL_COLUMNS.values(),
        *_TOKEN_COLUMNS.values(),
        *ADJUSTMENT_COLUMNS,
    }
)


METERED_COLUMNS = (*_CALL_COLUMNS.values(), *_TOKEN_COLUMNS.values())
_VIEW_COLUMNS = (*KEY_COLUMNS, *METERED_COLUMNS, *PLACE_COLUMNS)
COUNT_COLUMNS = ADJUSTMENT_COLUMNS | set(METERED_COLUMNS)
_ZEROS: dict[str, object] = dict.fromkeys(METERED_COLUMNS, 0)
_calls_of: Callable[[Sums], tuple[int, ...]] = attrgetter(*_CALL_COLUMNS)

MOST_REPAIRS = 10_000  # revisions of a sum that added nothing to it


class Place(NamedTuple):
    """Where a row is stored, to name it when a cell of it is damaged."""

    table: str
    partition: str
    row: str


_UNNAMED = Place("?", "?", "?")
_NOTHING: Mapping[str, str] = {}


class SumRow(Struct, frozen=True, kw_only=True, gc=False):
    """One sum as an absolute value."""

    key: SumKey
    sums: Sums
    revision: int

    def columns(self) -> dict[str, object]:
        """The columns of a new view row. Most have no adjustments, and then no columns of them."""
        sums = self.sums
        values = (*self._key_values(), *counts_of(sums), *sums.place)
        columns: dict[str, object] = dict(zip(_VIEW_COLUMNS, values, strict=True))
        return _with_rest(columns, sums, self.revision)

    def ledger_columns(self) -> dict[str, object]:
        """The columns of a new ledger row: those of a view row, without counts of 0."""
        columns: dict[str, object] = dict(zip(KEY_COLUMNS, self._key_values(), strict=True))
        columns |= self.changing_columns()
        return columns

    def changing_columns(self) -> dict[str, object]:
        """The columns of a row that is there already: not what it is of, and no counts of 0.

        Counts only grow, so one that is 0 is so in the row, too.
        """
        return changing_columns(self.sums, self.revision)

    def check_range(self) -> None:
        """Raise LedgerDamaged if a count is beyond what a column holds."""
        sums, adjusted = self.sums, self.sums.adjusted
        calls = max(sums.calls, sums.failed_calls, sums.estimated_calls, sums.missing_calls)
        if (
            calls in INT64
            and max(sums.tokens) in INT64
            and self.revision in INT64
            and sums.adjustments in INT64
            # Nearly all have none, and this runs for every row.
            and (adjusted is NO_USAGE or (max(adjusted) in INT64 and min(adjusted) in INT64))
        ):
            return
        for column, value in self.columns().items():
            if type(value) is int and value not in INT64:
                raise damaged_cell(f"{value} is beyond 64 bits", column, _place_of(self.key))

    def _key_values(self) -> tuple[object, ...]:
        return *self.key.dimensions, self.key.window.start


class SumColumns(Mapping[str, object]):
    """The columns of a sum's row, made only when one is asked for.

    A store that knows them writes the sum itself (`adapters/odata/sums.py`). `of_key` are those of a
    row that is new, `with_zeros` those of a view row; `opened` follow the others.
    """

    __slots__ = ("_made", "of_key", "opened", "row", "with_zeros")

    def __init__(
        self,
        row: SumRow,
        *,
        of_key: bool,
        with_zeros: bool = False,
        opened: Mapping[str, str] = _NOTHING,
    ) -> None:
        self.row = row
        self.of_key = of_key
        self.with_zeros = with_zeros
        self.opened = opened
        self._made: Mapping[str, object] | None = None

    def __getitem__(self, name: str) -> object:
        return self._columns()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns())

    def __len__(self) -> int:
        return len(self._columns())

    def items(self) -> ItemsView[str, object]:
        """All of them, as a dict has them: `Mapping` asks for one after the other."""
        return self._columns().items()

    def _columns(self) -> Mapping[str, object]:
        if self._made is None:
            row = self.row
            if self.with_zeros:
                own = row.columns()
            else:
                own = row.ledger_columns() if self.of_key else row.changing_columns()
            self._made = {**own, **self.opened} if self.opened else own
        return self._made


def changing_columns(sums: Sums, revision: int) -> dict[str, object]:
    """The columns of a sum without what it is of, and without counts of 0."""
    counts = counts_of(sums)
    # In two passes, since pairs of all 24 would be made first, and most counts are 0.
    columns: dict[str, object] = dict(
        zip(compress(METERED_COLUMNS, counts), filter(None, counts), strict=True)
    )
    columns["Region"], columns["DeploymentType"] = sums.place
    return _with_rest(columns, sums, revision)


def counts_of(sums: Sums) -> tuple[int, ...]:
    """The counts of calls and of what was metered, in the order of METERED_COLUMNS."""
    calls = sums.calls, sums.failed_calls, sums.estimated_calls, sums.missing_calls
    return *calls, *sums.tokens


def _with_rest(columns: dict[str, object], sums: Sums, revision: int) -> dict[str, object]:
    if sums.first_call_at is not None:
        columns["FirstCallAt"] = sums.first_call_at
    if sums.last_call_at is not None:
        columns["LastCallAt"] = sums.last_call_at
    if sums.adjustments:
        columns["Adjustments"] = sums.adjustments
        columns |= zip(_ADJUSTED_COLUMNS.values(), sums.adjusted, strict=True)
    columns["Revision"] = revision
    return columns


def cleared_counts(found: Mapping[str, object], right: Mapping[str, object]) -> dict[str, object]:
    """Zeros for the counts of a row that should have none."""
    return {name: 0 for name in found if name in COUNT_COLUMNS and name not in right}


def read_sum_row(partition: str, row: Row) -> SumRow:
    """A ledger's row as a value. Raises ValueError when it is no sum's, and LedgerDamaged."""
    place = parse_sum_key(partition, row.key)
    window = Window(place.window)
    at = Place(_ledger_of(window), partition, row.key)
    names = {
        name: _text(row.columns.get(column), column, at)
        for name, column in _DIMENSION_COLUMNS.items()
    }
    for (name, column), part in zip(_DIMENSION_COLUMNS.items(), place.names, strict=True):
        if escape(names[name]) != part:  # or it would be shown as another's sum
            raise damaged_cell(f"the row's key says {part}, got {names[name]!r:.60}", column, at)
    return sum_row(SumKey(window, Dimensions(**names)), row.columns)


def sum_row(key: SumKey, columns: Mapping[str, object]) -> SumRow:
    """The sum that these columns hold; an empty one where there are none. Raises LedgerDamaged."""
    try:
        sums = read_sums(columns)
    except LedgerDamaged:
        sums = read_sums(columns, _place_of(key))  # named only now: it is made for every event
    return SumRow(key=key, sums=sums, revision=read_revision(columns))


def _place_of(key: SumKey) -> Place:
    """Where the ledger stores the sum."""
    return Place(_ledger_of(key.window), key.place.partition, key.place.row_key)


def key_columns(key: SumKey) -> dict[str, object]:
    """The dimensions and the window as columns."""
    return dict(zip(KEY_COLUMNS, (*key.dimensions, key.window.start), strict=True))


def sums_columns(sums: Sums) -> dict[str, object]:
    """The counts as columns, with zeros."""
    columns: dict[str, object] = dict(zip(_CALL_COLUMNS.values(), _calls_of(sums), strict=True))
    columns |= zip(_TOKEN_COLUMNS.values(), sums.tokens, strict=True)
    columns |= zip(PLACE_COLUMNS, sums.place, strict=True)
    columns["Adjustments"] = sums.adjustments
    columns |= zip(_ADJUSTED_COLUMNS.values(), sums.adjusted, strict=True)
    if sums.first_call_at is not None:
        columns["FirstCallAt"] = sums.first_call_at
    if sums.last_call_at is not None:
        columns["LastCallAt"] = sums.last_call_at
    return columns


def with_zeros(columns: Mapping[str, object]) -> dict[str, object]:
    """The columns of a ledger row as its view row has them."""
    return {**_ZEROS, **columns}


def read_sums(columns: Mapping[str, object], at: Place = _UNNAMED) -> Sums:
    """The counts of a stored row. Raises LedgerDamaged, which names the cell."""
    calls = _ints(columns, _CALL_COLUMNS, at)
    return Sums(
        **calls,
        tokens=TokenUsage(**_ints(columns, _TOKEN_COLUMNS, at)),
        place=_place(columns),
        adjustments=_int(columns, "Adjustments", at),
        # Absent from most rows, and this runs for every row.
        adjusted=TokenUsage(**_ints(columns, _ADJUSTED_COLUMNS, at))
        if "Adjustments" in columns
        else NO_USAGE,
        # A sum of adjustments alone has no first and no last call.
        first_call_at=_moment(columns, "FirstCallAt", at) if calls["calls"] else None,
        last_call_at=_moment(columns, "LastCallAt", at) if calls["calls"] else None,
    )


def read_revision(columns: Mapping[str, object]) -> int:
    """How often the row was written; 0 if that is not a number, so that the next copy repairs it."""
    value = columns.get("Revision")
    return value if type(value) is int else 0


def next_revision(row: SumRow) -> int:
    """The revision that the ledger writes next; where it cannot be read, one above what it can be.

    Nearly every revision added a call or an adjustment. From 1 on, the sum would be behind its view
    for as many writes as were lost.
    """
    if row.revision > 0:
        return row.revision + 1
    counted = row.sums.calls + row.sums.adjustments
    return counted + MOST_REPAIRS if counted > 0 else 1


def _ledger_of(window: Window) -> str:
    return ledger_table(window.month)


def _ints(columns: Mapping[str, object], names: Mapping[str, str], at: Place) -> dict[str, int]:
    return {name: _int(columns, column, at) for name, column in names.items()}


def _int(columns: Mapping[str, object], name: str, at: Place) -> int:
    value = columns.get(name, 0)
    if type(value) is not int:
        raise damaged_cell(f"a whole number is expected, got {value!r:.60}", name, at)
    return value


def _place(columns: Mapping[str, object]) -> tuple[str, str]:
    region, deployment_type = (str(columns.get(name, "")) for name in PLACE_COLUMNS)
    return region, deployment_type


def _moment(columns: Mapping[str, object], name: str, at: Place) -> datetime | None:
    value = columns.get(name)
    if value is not None and not isinstance(value, datetime):
        raise damaged_cell(f"a moment is expected, got {value!r:.60}", name, at)
    return value


def _text(value: object, name: str, at: Place) -> str:
    if not isinstance(value, str):
        raise damaged_cell(f"a text is expected, got {value!r:.60}", name, at)
    return value


def damaged_cell(detail: str, column: str, at: Place) -> LedgerDamaged:
    """The error that names a cell."""
    return LedgerDamaged(detail, table=at.table, partition=at.partition, row=at.row, column=column)
