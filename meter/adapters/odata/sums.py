"""Writes rows of sums without making their columns first, and any other row as `entity.py` does.

Nearly all rows of an aggregator are sums, of 6 to 40 columns, and most counts are 0: with their dicts
they took a fifth of its time. Here the text of the columns is made once for all rows with the same counts
that are not 0, zeros included, and that of a sum's dimensions, and of the counts of a new one, once for
its hour, day and month. The bytes are those of `entity.py`, which also writes what is unusual and
refuses what cannot be stored.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import compress
from json.encoder import encode_basestring_ascii as quote_json
from struct import Struct, error

from meter.adapters.odata import entity
from meter.ledger.fold import Place, Sums
from meter.ledger.keys import Dimensions
from meter.ledger.rows import KEY_COLUMNS, METERED_COLUMNS, PLACE_COLUMNS, SumColumns, counts_of
from meter.ports import Row
from meter.window import Window

# The rows of an hour, its day and its month are written by turns, a hundred of each.
MAX_SHARED = 1_024

_DIMENSIONS = "".join([entity.column(name, str) for name in KEY_COLUMNS[:-1]])
_PLACE = "".join([entity.column(name, str) for name in PLACE_COLUMNS])
_MOMENTS = [entity.column(name, datetime) for name in ("FirstCallAt", "LastCallAt")]
_REST = "".join(["%s", *_MOMENTS, entity.column("Revision", int)])


def row_pieces(row: Row) -> Sequence[bytes]:
    """What `entity.write_row` gives, with the same errors, in pieces: rows of 2 KB are joined once."""
    columns = row.columns
    if type(columns) is not SumColumns:
        return (entity.write_row(row).encode("ascii"),)
    found, opened = columns.row, columns.opened
    sums, first, last = found.sums, found.sums.first_call_at, found.sums.last_call_at
    if (
        sums.adjustments
        # A moment that was read is unusual: it has a digit more than those equal to it.
        or type(first) is not datetime
        or first.tzinfo is not UTC
        or (last is not first and (type(last) is not datetime or last.tzinfo is not UTC))
    ):
        return (entity.write_row(row).encode("ascii"),)
    try:
        # The ledger's row has what is open, and is alone; those of views are three, one after the other.
        counts = (_counted if opened else _shared_counted)(sums, found.revision, columns.with_zeros)
    except error:
        return (entity.write_row(row).encode("ascii"),)
    end = _opened(opened) if opened else b"}"
    if not columns.of_key:
        return quote_json(row.key).encode(), counts, end
    names = (_names if opened else _shared_names)(row.key, found.key.dimensions)
    return names, _window(found.key.window), counts, end


def _counted(sums: Sums, revision: int, with_zeros: bool) -> bytes:
    counts = counts_of(sums)
    text, pack = _form(tuple(compress(METERED_COLUMNS, counts)), with_zeros)
    numbers = tuple(filter(None, counts))
    pack(*numbers, revision)
    first, last = sums.first_call_at, sums.last_call_at
    assert first is not None, "a usual sum has both"
    assert last is not None
    from_then = entity.write_utc(first)
    to_then = from_then if last is first else entity.write_utc(last)
    return (text % (*numbers, _place(sums.place), from_then, to_then, revision)).encode()


_shared_counted = lru_cache(MAX_SHARED)(_counted)


@lru_cache(entity.MAX_SHAPES)
def _form(names: tuple[str, ...], with_zeros: bool) -> tuple[str, Callable[..., object]]:
    """The text of the columns that change, and what fails if a number is out of range."""
    counts = [
        column if name in names else column % 0
        for name in METERED_COLUMNS
        if with_zeros or name in names
        for column in (entity.column(name, int),)
    ]
    return "".join([*counts, _REST]), Struct(f"{len(names) + 1}q").pack


def _names(key: str, dimensions: Dimensions) -> bytes:
    return f"{quote_json(key)}{_DIMENSIONS % tuple(map(quote_json, dimensions))}".encode()


_shared_names = lru_cache(MAX_SHARED)(_names)


@lru_cache(MAX_SHARED)
def _place(place: Place) -> str:
    return _PLACE % tuple(map(quote_json, place))


@lru_cache(MAX_SHARED)
def _window(window: Window) -> bytes:
    name = KEY_COLUMNS[-1]
    return (entity.column(name, datetime) % entity.write_moment(name, window.start)).encode()


def _opened(opened: Mapping[str, str]) -> bytes:
    texts = [_text_column(name) % quote_json(value) for name, value in opened.items()]
    return f"{''.join(texts)}}}".encode()


@lru_cache(MAX_SHARED)
def _text_column(name: str) -> str:
    return entity.column(name, str)
