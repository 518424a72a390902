"""The sums in a row of the ledger: a month's row also has the latest day and hour of its dimensions.

| column            | type   | meaning                                                         |
|-------------------|--------|-----------------------------------------------------------------|
| OpenDay, OpenHour | String | JSON of a sum, see `_Open`; in rows of months, beside `rows.py` |

Nearly every event is of the latest hour of its dimensions. So the sums of that hour and its day are
open in the month's row, and the event changes one row instead of three. When a later hour begins, the
open one gets a row of its own, in the same transaction, and never comes back: what is late for it is
added to that row. So hours (and days) with rows of their own are never later than the open one, and the
open one has none: an hour that begins is new. Where that does not hold the ledger is damaged.

A text without a revision has no sum: all up to its window have rows of their own. A repair leaves it.

What moves, moves out of a month's row. A reader that reads the rows of months first misses nothing; if
it meets a sum twice, the sum's own row is the newer one.
"""

from collections.abc import Iterator, Mapping
from copy import replace
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from meter.errors import LedgerDamaged
from meter.ledger.fold import NO_PLACE, Place, Sums
from meter.ledger.keys import (
    SUM_PREFIX,
    SumKey,
    ledger_table,
    parse_sum_key,
)
from meter.ledger.rows import (
    DIMENSION_COLUMNS,
    SumColumns,
    SumRow,
    changing_columns,
    damaged_cell,
    read_sum_row,
    read_sums,
    sum_row,
)
from meter.ledger.rows import Place as Cell
from meter.ports import Row
from meter.usage import NO_USAGE, TokenUsage
from meter.window import Period, Window, parse_window

_OPEN_DAY, _OPEN_HOUR = "OpenDay", "OpenHour"
OPEN_COLUMNS = {Period.DAY: _OPEN_DAY, Period.HOUR: _OPEN_HOUR}


class Packed(Struct, frozen=True, gc=False):
    """A row of the ledger: its own sum, and where that is a month's, the open ones.

    An open one without a revision only says which rows there are.
    """

    row: SumRow
    day: SumRow | None = None
    hour: SumRow | None = None

    def new_row(self) -> Row:
        """The row to insert."""
        columns = SumColumns(self.row, of_key=True, opened=_open_columns(self.day, self.hour))
        return Row(key=self.row.key.row_key, columns=columns)

    def changed_row(self, before: "Packed", etag: str) -> Row:
        """The row to merge into the stored one."""
        opened = _open_columns(
            None if self.day is before.day else self.day,
            None if self.hour is before.hour else self.hour,
        )
        columns = SumColumns(self.row, of_key=False, opened=opened)
        return Row(key=self.row.key.row_key, columns=columns, etag=etag)

    def sums(self) -> Iterator[SumRow]:
        """The sums in it."""
        yield self.row
        for row in (self.day, self.hour):
            if row is not None and row.revision:
                yield row


class Known(Struct, frozen=True, gc=False):
    """What is known of a stored row."""

    etag: str
    packed: Packed


class OpenSum(Row, frozen=True, kw_only=True, eq=False, gc=False):
    """An open sum as if it had a row of its own; `home` is the key of its month's row."""

    home: str


class Unpacked(NamedTuple):
    """A stored row as rows of one sum each, what of it cannot be read, and its texts' windows."""

    rows: list[Row]
    damages: list[LedgerDamaged]
    latest: dict[Period, Window]


class _Open(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    window: str
    revision: Annotated[int, Meta(ge=0)] = 0
    calls: int = 0
    failed_calls: int = 0
    estimated_calls: int = 0
    missing_calls: int = 0
    tokens: dict[str, int] = msgspec.field(default_factory=dict)
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None
    place: Place | None = None
    adjustments: int = 0
    adjusted: dict[str, int] = msgspec.field(default_factory=dict)


_ENCODER, _DECODER = msgspec.json.Encoder(), msgspec.json.Decoder(_Open)


def nothing_open(key: SumKey) -> SumRow:
    """What says that all sums up to this one have rows of their own."""
    return SumRow(key=key, sums=Sums(), revision=0)


def open_column(row: SumRow) -> dict[str, str]:
    """The column of an open sum."""
    window = row.key.window
    return {OPEN_COLUMNS[window.period]: _text(_open(window, row.sums, row.revision))}


def with_revision(row: Row, revision: int) -> Row:
    """What gives a stored sum another revision, wherever it is stored."""
    if not isinstance(row, OpenSum):
        return Row(key=row.key, columns={"Revision": revision}, etag=row.etag)
    window = Window(row.key.split("|", 2)[1])
    text = _text(_open(window, read_sums(row.columns), revision))
    return Row(key=row.home, columns={OPEN_COLUMNS[window.period]: text}, etag=row.etag)


def read_packed(partition: str, row: Row) -> Packed:
    """The sums of a row. Raises ValueError when it is no sum's, and LedgerDamaged."""
    return _with_open(read_sum_row(partition, row), partition, row)


def packed_row(key: SumKey, row: Row) -> Packed:
    """The sums of the row with that key. Raises LedgerDamaged."""
    return _with_open(sum_row(key, row.columns), key.place.partition, row)


def unpacked(partition: str, row: Row) -> Unpacked:
    """The row as rows of one sum each. Raises ValueError when it is no sum's."""
    place = parse_sum_key(partition, row.key)
    if not is_month(place.window):
        return Unpacked([row], [], {})
    columns = {n: v for n, v in row.columns.items() if n not in OPEN_COLUMNS.values()}
    found = Unpacked([replace(row, columns=columns)], [], {})
    names = {name: columns[name] for name in DIMENSION_COLUMNS if name in columns}
    for period in OPEN_COLUMNS:
        try:
            window, sums, revision = _read(partition, row, Window(place.window), period)
        except LedgerDamaged as exc:
            found.damages.append(exc)
            continue
        found.latest[period] = window
        if revision:
            start: dict[str, object] = {"WindowStart": window.start}
            found.rows.append(
                OpenSum(
                    key=f"{SUM_PREFIX}{window.name}|{place.name}",
                    columns=names | start | changing_columns(sums, revision),
                    etag=row.etag,
                    written_at=row.written_at,
                    home=row.key,
                )
            )
    return found


def sums_in(partition: str, row: Row) -> tuple[list[SumRow], list[LedgerDamaged]]:
    """The sums of a row, and what of it cannot be read. Raises ValueError when it is no sum's."""
    rows, damages, _ = unpacked(partition, row)
    sums = []
    for each in rows:
        try:
            sums.append(read_sum_row(partition, each))
        except LedgerDamaged as exc:
            damages.append(exc)
    return sums, damages


def two_places(partition: str, month_key: str, window: Window) -> LedgerDamaged:
    """The damage of a sum that has a row of its own, and is open, too, or later than what is."""
    at = Cell(ledger_table(window.month), partition, month_key)
    return damaged_cell(f"{window.name} has a row of its own", OPEN_COLUMNS[window.period], at)


def is_month(window: str) -> bool:
    """Whether a window's name is a month's."""
    return len(window) == len("2026-11")


def _with_open(own: SumRow, partition: str, row: Row) -> Packed:
    month = own.key.window
    if not is_month(month.name):
        return Packed(own)
    day, hour = (
        SumRow(key=SumKey(window, own.key.dimensions), sums=sums, revision=revision)
        for window, sums, revision in (
            _read(partition, row, month, period) for period in OPEN_COLUMNS
        )
    )
    return Packed(own, day, hour)


def _open_columns(day: SumRow | None, hour: SumRow | None) -> dict[str, str]:
    """The columns of these open sums: of a sum that is new, the same but for their windows."""
    columns: dict[str, str] = {}
    if day is not None:
        found = _open(day.key.window, day.sums, day.revision)
        columns[_OPEN_DAY] = _text(found)
    if hour is not None:
        if day is not None and hour.sums is day.sums:
            found.window, found.revision = hour.key.window.name, hour.revision
        else:
            found = _open(hour.key.window, hour.sums, hour.revision)
        columns[_OPEN_HOUR] = _text(found)
    return columns


def _text(opened: _Open) -> str:
    return _ENCODER.encode(opened).decode()


def _open(window: Window, sums: Sums, revision: int) -> _Open:
    return _Open(
        window=window.name,
        revision=revision,
        calls=sums.calls,
        failed_calls=sums.failed_calls,
        estimated_calls=sums.estimated_calls,
        missing_calls=sums.missing_calls,
        tokens=sums.tokens.nonzero(),
        first_call_at=sums.first_call_at,
        last_call_at=sums.last_call_at,
        place=sums.place if any(sums.place) else None,
        adjustments=sums.adjustments,
        adjusted=sums.adjusted.nonzero() if sums.adjustments else {},
    )


def _read(partition: str, row: Row, month: Window, period: Period) -> tuple[Window, Sums, int]:
    """The open sum of a month's row. Raises LedgerDamaged."""
    column = OPEN_COLUMNS[period]
    value = row.columns.get(column)
    try:
        if not isinstance(value, str):
            raise TypeError(f"a text is expected, got {value!r:.60}")
        found = _DECODER.decode(value)
        window = parse_window(found.window)
        if window.period is not period or window.month != month:
            raise ValueError(f"{period} of {month.name} is expected, got {window.name}")
        sums = Sums(
            calls=found.calls,
            failed_calls=found.failed_calls,
            estimated_calls=found.estimated_calls,
            missing_calls=found.missing_calls,
            tokens=_usage(found.tokens),
            first_call_at=found.first_call_at,
            last_call_at=found.last_call_at,
            place=found.place or NO_PLACE,
            adjustments=found.adjustments,
            adjusted=_usage(found.adjusted),
        )
    except (ValueError, TypeError) as exc:
        place = Cell(ledger_table(month), partition, row.key)
        raise damaged_cell(str(exc), column, place) from exc
    return window, sums, found.revision


def _usage(counts: Mapping[str, int]) -> TokenUsage:
    return TokenUsage(**counts) if counts else NO_USAGE
