"""Where a receiver starts: the `amqp.annotation.x-opt-...` filter of its source, as a value."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from local.eventhubs.codec import Described, Value
from local.eventhubs.log import PartitionLog

_SELECTOR: Final = re.compile(
    r"\s*amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time)\s*(>=|>)\s*"
    r"(?:'([^']*)'|([^\s']+))\s*"
)
_FILTER_FIELD: Final = 7  # of the source, AMQP part 3, section 3.5.3
_WHOLE_NUMBER: Final = re.compile(r"-?\d{1,18}")


class Field(Enum):
    """The unit of a position."""

    OFFSET = "offset"
    SEQUENCE_NUMBER = "sequence-number"
    ENQUEUED_TIME = "enqueued-time"


class SelectorError(ValueError):
    """The filter is not a position in the partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a partition, before which nothing is delivered."""

    field: Field
    value: str
    inclusive: bool


FROM_START: Final = Position(field=Field.OFFSET, value="-1", inclusive=False)


def read_position(source: Value) -> Position:
    """Return the position a source requests; the start if none. Raises `SelectorError`."""
    text = _selector_text(source)
    if text is None:
        return FROM_START
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise SelectorError(
            f"selector {text!r} must compare x-opt-offset, x-opt-sequence-number or"
            " x-opt-enqueued-time with > or >= and a value"
        )
    field, operator, quoted, bare = match.groups()  # .NET's SDK sends the value without quotes
    value = bare if quoted is None else quoted
    return Position(field=Field(field), value=value, inclusive=operator == ">=")


def find_first(log: PartitionLog, position: Position) -> int:
    """Return the sequence number to deliver first. Raises `SelectorError`.

    A position past the end is refused, as by the service: the reader's checkpoint belongs to
    another log, and waiting there would hide the loss.
    """
    if position.value == "@latest":
        return len(log)
    if not _WHOLE_NUMBER.fullmatch(position.value):
        raise SelectorError(f"{position.field.value} must be a number, got {position.value!r}")
    value = int(position.value)
    match position.field:
        case Field.ENQUEUED_TIME:
            return log.find_time(value, inclusive=position.inclusive)
        case Field.SEQUENCE_NUMBER:
            first = max(0, value if position.inclusive else value + 1)
            _check_end(position, first, len(log))
            return first
        case Field.OFFSET:
            _check_end(position, value, log.end_position)
            return log.find_offset(max(value, 0), inclusive=position.inclusive)


def _check_end(position: Position, wanted: int, end: int) -> None:
    if wanted > end:
        raise SelectorError(
            f"the supplied {position.field.value} '{position.value}' is invalid,"
            f" the partition ends before {end}"
        )


def _selector_text(source: Value) -> str | None:
    if not isinstance(source, Described) or not isinstance(source.value, list):
        return None
    filters = source.value[_FILTER_FIELD] if len(source.value) > _FILTER_FIELD else None
    if not isinstance(filters, dict):
        return None
    for selector in filters.values():
        text = selector.value if isinstance(selector, Described) else selector
        if isinstance(text, str):
            return text
    return None
