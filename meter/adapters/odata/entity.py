"""Rows as the JSON of entities, written and read.

`Int64`, `DateTime` and other types that JSON does not have are texts with their type beside them, in
`NAME@odata.type`; a text without is a `String`. What depends on a row's columns and their types alone
is made once for all rows that have the same.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii as quote_json
from math import isinf, isnan
from operator import itemgetter
from struct import Struct, error
from typing import Any
from urllib.parse import quote
from uuid import UUID

from meter.ports import INT64, Row

MAX_SHAPES = 1_024  # of a few KB each
MAX_WRITTEN_MOMENTS = 4_096  # a call's moments are in several of its rows
# Of half a KB each: what rows share are windows and the moments of transactions.
MAX_READ_MOMENTS = 512

_TYPE = "@odata.type"
_KEYS = ("PartitionKey", "RowKey")
_INT64, _DATE_TIME = "Edm.Int64", "Edm.DateTime"

type _Convert = Callable[[Any], Any]


class StoredMoment(datetime):
    """A time of which the service keeps one digit more than `datetime` has."""

    tables_service_value = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """The text of rows of some columns, and how to make its values.

    `pack` fails if a whole number is out of range; `numbers` is None where there are none.
    """

    text: str
    pack: Callable[..., object]
    numbers: Callable[[Sequence[object]], Iterable[object]] | None
    writes: Sequence[tuple[int, _Convert]]
    absent: Sequence[int]


def write_keys(partition: str) -> str:
    """The beginning of an entity's JSON, the same for all rows of a partition."""
    return f'{{"PartitionKey":{quote_json(partition)},"RowKey":'


def write_row(row: Row) -> str:
    """The rest of the JSON, from the row's key on; ASCII, without line breaks.

    Raises ValueError for values that the service cannot store, and TypeError for types that it does
    not have; both name the column.
    """
    columns = row.columns
    values: list[Any] = [*columns.values()]
    template = _template(tuple(columns), tuple(map(type, values)))
    if template.numbers is not None:
        try:
            template.pack(*template.numbers(values))
        except error:
            raise _out_of_range(columns) from None
    for index, write in template.writes:
        values[index] = write(values[index])
    for index in template.absent:
        del values[index]
    return f"{quote_json(row.key)}{template.text % tuple(values)}}}"


@lru_cache(MAX_SHAPES)
def _template(names: tuple[str, ...], kinds: tuple[type, ...]) -> _Template:
    pieces: list[str] = []
    numbers: list[int] = []
    writes: list[tuple[int, _Convert]] = []
    absent: list[int] = []
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if name in _KEYS:
            raise ValueError(f"{name}: a column cannot have the name of a key")
        if kind is type(None):
            absent.append(index)
            continue
        edm, write = _writing(name, kind)
        if edm == _INT64:
            numbers.append(index)
        elif write is not None:
            writes.append((index, write))
        pieces.append(column(name, kind))
    return _Template(
        text="".join(pieces),
        pack=Struct(f"{len(numbers)}q").pack,
        numbers=_getter(numbers) if numbers else None,
        writes=writes,
        absent=absent[::-1],
    )


def column(name: str, kind: type) -> str:
    """The text of a column of that type, with the place of its value. Raises TypeError."""
    edm, _ = _writing(name, kind)
    text = f",{_literal(name)}:{_PLACES.get(edm or '', '%s')}"
    return text if edm is None else f'{text},{_literal(name + _TYPE)}:"{edm}"'


_PLACES = {_INT64: '"%d"', _DATE_TIME: '"%s"', "Edm.Binary": '"%s"'}


def _writing(name: str, kind: type) -> tuple[str | None, _Convert | None]:
    """The type in storage, if it must be said, and what makes the text of a value."""
    if issubclass(kind, str):
        return None, quote_json
    if issubclass(kind, bool):
        return None, lambda value: "true" if value else "false"
    if issubclass(kind, int):
        return _INT64, None
    if issubclass(kind, datetime):
        return _DATE_TIME, partial(write_moment, name)
    if issubclass(kind, bytes):
        return "Edm.Binary", lambda value: b64encode(value).decode()
    if issubclass(kind, float):
        return "Edm.Double", _write_double
    raise TypeError(f"{name}: {kind.__name__} cannot be stored")


def write_moment(name: str, value: datetime) -> str:
    """The text of a moment. Raises ValueError, which names the column, for a naive one."""
    if type(value) is not datetime and (text := getattr(value, "tables_service_value", "")):
        return str(text)  # as it was read, with one digit more than `datetime` has
    if value.tzinfo is UTC:
        return write_utc(value)
    if value.tzinfo is None:
        raise ValueError(f"{name}: a moment must be aware, got {value.isoformat()}")
    return write_utc(value.astimezone(UTC))


@lru_cache(MAX_WRITTEN_MOMENTS)
def write_utc(value: datetime) -> str:
    """The text of a moment in UTC."""
    return f"{value.isoformat(timespec='microseconds')[:-6]}Z"


def _write_double(value: float) -> str:
    if isnan(value):
        return '"NaN"'
    if isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    return float.__repr__(value)


def _out_of_range(columns: Mapping[str, object]) -> ValueError:
    found = ((n, v) for n, v in columns.items() if isinstance(v, int) and v not in INT64)
    name, value = next(found)
    return ValueError(f"{name}: not a number of 64 bits: {value}")


def _literal(name: str) -> str:
    """A name as JSON, in a template."""
    return quote_json(name).replace("%", "%%")


def read_row(entity: Mapping[str, Any]) -> tuple[str, Row]:
    """The partition and the row of an entity with minimal metadata.

    Raises KeyError without keys, ValueError and TypeError for values that are not of their type.
    """
    shape = _shape(tuple(entity))
    columns = dict(zip(shape.names, shape.values(entity), strict=True))
    for names, convert in _reading(shape.typed, tuple(shape.types(entity))):
        for name in names:
            columns[name] = convert(columns[name])
    written_at, etag = entity.get("Timestamp"), entity.get("odata.etag")
    if etag is None and written_at is not None:
        etag = f"W/\"datetime'{quote(written_at)}'\""
    return entity["PartitionKey"], Row(
        key=entity["RowKey"],
        columns=columns,
        etag=etag,
        written_at=None if written_at is None else _read_moment(written_at),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """The columns of an entity with these members, and those of them that say their type."""

    names: tuple[str, ...]
    values: Callable[[Mapping[str, Any]], Iterable[object]]
    typed: tuple[str, ...]
    types: Callable[[Mapping[str, Any]], Iterable[str]]


@lru_cache(MAX_SHAPES)
def _shape(members: tuple[str, ...]) -> _Shape:
    names = tuple(
        name
        for name in members
        if name not in {*_KEYS, "Timestamp"}
        and not name.startswith("odata.")
        and not name.endswith(_TYPE)
    )
    typed = tuple(name for name in names if name + _TYPE in members)
    return _Shape(
        names=names,
        values=_getter(names),
        typed=typed,
        types=_getter([name + _TYPE for name in typed]),
    )


@lru_cache(MAX_SHAPES)
def _reading(
    names: tuple[str, ...], types: tuple[str, ...]
) -> Sequence[tuple[Sequence[str], _Convert]]:
    """The columns that are not as JSON has them, by what reads them."""
    found: dict[_Convert, list[str]] = {}
    for name, edm in zip(names, types, strict=True):
        if edm in _READS:
            found.setdefault(_READS[edm], []).append(name)
    return [(some, convert) for convert, some in found.items()]


@lru_cache(MAX_READ_MOMENTS)
def _read_moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is not UTC:
        raise ValueError(f"no moment in UTC: {text:.40}")
    if len(text.partition(".")[2]) <= len("123456Z"):
        return found
    stored = StoredMoment.combine(found.date(), found.timetz())
    stored.tables_service_value = text
    return stored


_READS: Mapping[str, _Convert] = {
    _INT64: int,
    _DATE_TIME: _read_moment,
    "Edm.Double": float,
    "Edm.Binary": b64decode,
    "Edm.Guid": UUID,
}


def _getter(keys: Sequence[Any]) -> Callable[[Any], Any]:
    """What takes these items, however many they are, as a tuple."""
    if not keys:
        return lambda _: ()
    get = itemgetter(*keys)
    return get if len(keys) > 1 else lambda source: (get(source),)
