"""Writes rows of sums without making their columns first, and any other row as `entity.py` does.

Nearly all rows of an aggregator are sums, of 6 to 40 columns, and most counts are 0: with their dicts
they took a fifth of its time. Here the text of the columns is made once for all rows with the same counts
that are not 0, zeros included, and that of a sum's dimensions, and of the counts of a new one, once for
its hour, day and month. The bytes are those of `entity.py`, which also writes what is unusual and
refuses what cannot be stored.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from itertools import compress
from json.encoder import encode_basestring_ascii as quote_json
from struct import Struct, error

from meter.adapters.odata import entity
from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions
from meter.ledger.rows import KEY_COLUMNS, METERED_COLUMNS, PLACE_COLUMNS, SumColumns, counts_of
from meter.ports import Row
from meter.window import Window

# The rows of an hour, its day and its month are written by turns, a hundred of each.
MAX_SHARED = 1_024


class _Unusual(Exception):
    """`entity.py` writes it, or refuses it."""


def write_row(row: Row) -> str:
    """As `entity.write_row`, with the same errors."""
    columns = row.columns
    if type(columns) is SumColumns:
        try:
            return f"{quote_json(row.key)}{_sum(columns)}}}"
        except (_Unusual, error):
            pass
    return entity.write_row(row)


def _sum(columns: SumColumns) -> str:
    row = columns.row
    sums = row.sums
    first, last = sums.first_call_at, sums.last_call_at
    if sums.adjustments or type(first) is not datetime or type(last) is not datetime:
        raise _Unusual  # as is a moment that was read: it has a digit more than those equal to it
    if columns.with_zeros:
        text = _whole(sums, first, last, row.revision)
    else:
        text = _counted(sums, first, last, row.revision)
    if columns.of_key:
        text = f"{_dimensions(row.key.dimensions)}{_window(row.key.window)}{text}"
    for name, value in columns.opened.items():
        text += _text_column(name) % quote_json(value)
    return text


def _counted(
    sums: Sums, first: datetime, last: datetime, revision: int, *, with_zeros: bool = False
) -> str:
    counts = counts_of(sums)
    text, pack = _form(tuple(compress(METERED_COLUMNS, counts)), with_zeros)
    numbers = tuple(filter(None, counts))
    pack(*numbers, revision)
    region, deployment_type = sums.place
    return text % (
        *numbers,
        quote_json(region),
        quote_json(deployment_type),
        entity.write_moment("FirstCallAt", first),
        entity.write_moment("LastCallAt", last),
        revision,
    )


@lru_cache(MAX_SHARED)
def _whole(sums: Sums, first: datetime, last: datetime, revision: int) -> str:
    return _counted(sums, first, last, revision, with_zeros=True)


@lru_cache(entity.MAX_SHAPES)
def _form(names: tuple[str, ...], with_zeros: bool) -> tuple[str, Callable[..., object]]:
    """The text of the columns of a sum's counts, and what fails if one is out of range."""
    counts = [
        column if name in names else column % 0
        for name in METERED_COLUMNS
        if with_zeros or name in names
        for column in (entity.column(name, int),)
    ]
    texts = [entity.column(name, str) for name in PLACE_COLUMNS]
    moments = [entity.column(name, datetime) for name in ("FirstCallAt", "LastCallAt")]
    text = "".join([*counts, *texts, *moments, entity.column("Revision", int)])
    return text, Struct(f"{len(names) + 1}q").pack


@lru_cache(MAX_SHARED)
def _dimensions(dimensions: Dimensions) -> str:
    names = KEY_COLUMNS[:-1]
    return "".join(
        [_text_column(n) % quote_json(v) for n, v in zip(names, dimensions, strict=True)]
    )


@lru_cache(MAX_SHARED)
def _window(window: Window) -> str:
    name = KEY_COLUMNS[-1]
    return entity.column(name, datetime) % entity.write_moment(name, window.start)


@lru_cache(MAX_SHARED)
def _text_column(name: str) -> str:
    return entity.column(name, str)
