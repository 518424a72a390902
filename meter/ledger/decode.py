"""Reads events from hub messages; an event that cannot be counted becomes a dead letter.

A message holds a CloudEvents batch (a JSON array) or one event. Unknown fields are ignored, since
newer front doors may send more. An invalid event does not affect its neighbours.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from meter.adjustment import ADJUSTMENT_TYPE, Countable
from meter.ledger.reading.careful import read_adjustment, read_usage_event
from meter.ledger.reading.reason import Reason as Reason
from meter.ledger.reading.shortcut import read_plain
from meter.strict import Fields, Invalid
from meter.usage import EVENT_TYPE, UsageEvent

MAX_AHEAD = timedelta(minutes=5)
MAX_DIGITS = 20
# A message with more refused values is one letter: half a million `0` must not be as many rows.
MAX_LETTERS_OF_A_MESSAGE = 50
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One hub message as received, and its place on the hub; `hub` is namespace and name."""

    body: bytes
    hub_partition: str
    sequence_number: int
    enqueued_at: datetime | None = None
    hub: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one event is not counted."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event, or a whole message, that was not counted; `index` counts from 0 in the message.

    `body` is what was received, byte for byte.
    """

    message: Message
    index: int
    reason: Reason
    detail: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The events and dead letters of a batch; `places` has each event's message and index in it."""

    events: tuple[Countable, ...]
    dead_letters: tuple[DeadLetter, ...]
    places: tuple[tuple[Message, int], ...] = ()

    def letters_of(self, refused: Mapping[tuple[str, UUID], Refusal]) -> list[DeadLetter]:
        """The dead letters of events that were refused later, given by subject and id."""
        if not refused:
            return []
        by_message: dict[int, tuple[Message, dict[int, Refusal]]] = {}
        for event, (message, index) in zip(self.events, self.places, strict=True):
            refusal = refused.get((event.subject, event.id))
            if refusal is not None:
                by_message.setdefault(id(message), (message, {}))[1][index] = refusal
        return [
            letter
            for message, found in by_message.values()
            for letter in _letters(message, len(_documents(message)), found)
        ]


class _Rejected(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


def decode(messages: Sequence[Message], *, now: datetime, retention: timedelta) -> Decoded:
    """Read every message. Repeats of events older than `retention` can no longer be detected.

    An event is in the future if it is for both `now` and the moment at which the hub took it: a
    clock that is behind must not refuse what just happened.
    """
    events: list[Countable] = []
    places: list[tuple[Message, int]] = []
    dead: list[DeadLetter] = []
    earliest = now - retention
    for message in messages:
        refused: dict[int, Refusal] = {}
        latest = now if message.enqueued_at is None else max(now, message.enqueued_at)
        last = latest + MAX_AHEAD
        documents = read_plain(message.body) or _documents(message)
        for index, document in enumerate(documents):
            try:
                if isinstance(document, _Rejected):
                    raise document
                event = document if isinstance(document, UsageEvent) else read_event(document)
                if not earliest <= event.time <= last:
                    raise _at_wrong_time(event.time, earliest, latest=latest, retention=retention)
                events.append(event)
                places.append((message, index))
            except _Rejected as exc:
                refused[index] = exc.refusal
        if refused:
            dead += _letters(message, len(documents), refused)
    return Decoded(events=tuple(events), dead_letters=tuple(dead), places=tuple(places))


def read_event(document: object) -> Countable:
    """One CloudEvent as a value. Raises if a field is missing or invalid."""
    if not isinstance(document, dict):
        found = "nothing" if document is None else type(document).__name__
        raise _Rejected(Reason.NOT_AN_EVENT, f"an event is a JSON object, got {found}")
    kind, fields = document.get("type"), Fields(document, "")
    try:
        if kind == EVENT_TYPE:
            return read_usage_event(fields)
        if kind == ADJUSTMENT_TYPE:
            return read_adjustment(fields)
    except Invalid as exc:
        raise _Rejected(Reason.INVALID_FIELD, str(exc)) from exc
    rule = f"type must be {EVENT_TYPE} or {ADJUSTMENT_TYPE}, got {str(kind)[:100]!r}"
    raise _Rejected(Reason.UNKNOWN_TYPE, rule)


def _documents(message: Message) -> Sequence[object]:
    try:
        document = _read_json(message.body.decode())
    except (ValueError, RecursionError):
        return [_Rejected(Reason.NOT_JSON, "the message is not JSON in UTF-8")]
    if document == []:
        return [_Rejected(Reason.NOT_AN_EVENT, "the batch is empty")]
    return document if isinstance(document, list) else [document]


def _read_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:  # perhaps for a whole number that is longer than Python converts
        return json.loads(text, parse_int=_whole_number)


def _whole_number(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


def _at_wrong_time(
    time: datetime, earliest: datetime, *, latest: datetime, retention: timedelta
) -> _Rejected:
    if time < earliest:
        detail = f"the call ended {time.isoformat()}, before the last {retention.days} days"
        return _Rejected(Reason.TOO_LATE, detail)
    detail = f"the call ended {time.isoformat()}, over 5 minutes ahead of {latest.isoformat()}"
    return _Rejected(Reason.IN_THE_FUTURE, detail)


def _letters(message: Message, count: int, refused: Mapping[int, Refusal]) -> list[DeadLetter]:
    """A letter for each refused one of `count` values, with its text; one for very many of them."""
    if len(refused) > MAX_LETTERS_OF_A_MESSAGE:
        index, first = next(iter(refused.items()))
        detail = f"{len(refused)} of {count} values; the first of them, at {index}: {first.detail}"
        refused, bodies = {0: Refusal(first.reason, detail)}, [message.body]
    elif count == 1:
        bodies = [message.body]
    else:
        texts = list(_elements(message.body.decode()))
        bodies = [texts[index].encode() for index in refused]
    return [
        DeadLetter(message=message, index=i, reason=each.reason, detail=each.detail, body=body)
        for (i, each), body in zip(refused.items(), bodies, strict=True)
    ]


def _elements(text: str) -> Iterator[str]:
    """The texts of a JSON array's elements, as they are. The array is valid and not empty."""
    decoder = json.JSONDecoder(parse_int=_whole_number)
    position = text.index("[")
    while text[position] != "]":
        start = _space_after(text, position + 1)
        _, end = decoder.raw_decode(text, start)
        yield text[start:end]
        position = _space_after(text, end)


def _space_after(text: str, position: int) -> int:
    return position if (space := _SPACE.match(text, position)) is None else space.end()
