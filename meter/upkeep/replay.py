"""Reads dead letters and counts those that can be counted now.

A letter is deleted once every event in its body is counted, now or before. The event ids make
counting safe to repeat, so a replay that dies can simply be run again.
"""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from meter.adjustment import Countable
from meter.ledger.aggregator import Aggregator
from meter.ledger.commit import EventKey
from meter.ledger.deadletters import DEAD_LETTERS_TABLE
from meter.ledger.decode import Message, Reason, Refusal
from meter.ledger.keys import FIRST_KEY, LAST_KEY, LetterKey, parse_letter_key, parse_letter_row_key
from meter.ports import Row, RowStore, Tables
from meter.upkeep.standing import Standing
from meter.window import Period, Window, window_of

LETTERS_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLetter:
    """A dead letter as it is stored. `body` is None while some of its rows are not written yet."""

    key: str
    reason: str
    detail: str
    hub: str
    hub_partition: str
    sequence_number: int
    enqueued_at: datetime | None
    body: bytes | None
    day: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A letter decoded by the rules that apply now; `refusals` say why it must stay."""

    letter: StoredLetter
    events: tuple[Countable, ...] = ()
    refusals: tuple[str, ...] = ()


@dataclass(slots=True)
class ReplaySummary:
    """How many letters and calls were counted and refused."""

    replayed: int = 0
    refused: int = 0
    new_calls: int = 0
    repeated_calls: int = 0


async def read_letters(
    store: RowStore, *, first_day: str = FIRST_KEY, last_day: str = LAST_KEY
) -> AsyncIterator[StoredLetter]:
    """The letters of some days, `undated` last, in order. Raises StorageUnavailable."""
    place: LetterKey | None = None
    rows = list[Row]()
    scan = store.scan(DEAD_LETTERS_TABLE, first_partition=first_day, last_partition=last_day)
    async for partition, row in scan:
        if place and partition == place.day and _continues(place, row):
            rows.append(row)
            continue
        if place:
            yield _letter(place, rows)
        place, rows = parse_letter_row_key(partition, row.key), [row]
    if place:
        yield _letter(place, rows)


async def find_letter(store: RowStore, key: str) -> StoredLetter | None:
    """The letter of that key, without digest the first there. Raises ValueError, StorageUnavailable."""
    wanted = parse_letter_key(key)
    scan = store.scan(
        DEAD_LETTERS_TABLE,
        first_partition=wanted.day,
        last_partition=wanted.day,
        first_key=wanted.row_key,
        last_key=wanted.part_row_key(LAST_KEY),
    )
    place: LetterKey | None = None
    rows = list[Row]()
    async for day, row in scan:
        if place is None:
            place = parse_letter_row_key(day, row.key)
        elif not _continues(place, row):
            break
        rows.append(row)
    return _letter(place, rows) if place else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Counts letters, in months whose ledgers were not dropped; a dry run only decodes them."""

    aggregator: Aggregator
    tables: Tables
    is_dry_run: bool = False

    async def run(
        self, letters: AsyncIterator[StoredLetter], report: Callable[[Judgement], None]
    ) -> ReplaySummary:
        """Count the letters without refusals and delete them; `report` gets each judgement.

        Raises StorageUnavailable.
        """
        summary = ReplaySummary()
        waiting: list[Judgement] = []
        async for letter in letters:
            waiting.append(self._judge(letter))
            if len(waiting) == LETTERS_AT_ONCE:
                await self._settle(waiting, summary, report)
                waiting = []
        await self._settle(waiting, summary, report)
        return summary

    def _judge(self, letter: StoredLetter) -> Judgement:
        if letter.body is None:
            return Judgement(letter=letter, refusals=("its body is not complete yet",))
        message = Message(
            body=letter.body,
            hub=letter.hub,
            hub_partition=letter.hub_partition,
            sequence_number=letter.sequence_number,
            enqueued_at=letter.enqueued_at,
        )
        decoded = self.aggregator.decode([message])
        refusals = tuple(f"{dead.reason}: {dead.detail}" for dead in decoded.dead_letters)
        return Judgement(letter=letter, events=decoded.events, refusals=refusals)

    async def _settle(
        self,
        judgements: Sequence[Judgement],
        summary: ReplaySummary,
        report: Callable[[Judgement], None],
    ) -> None:
        judgements = await self._without_dropped_months(judgements)
        events = [event for judgement in judgements for event in judgement.events]
        if events and not self.is_dry_run:
            counted = await self.aggregator.count(events)
            summary.new_calls += counted.new_calls
            summary.repeated_calls += counted.repeated_calls
            judgements = [_without_refused(each, counted.refused) for each in judgements]
        for judgement in judgements:
            if judgement.refusals:
                summary.refused += 1
            else:
                summary.replayed += 1
                if not self.is_dry_run:
                    await self._delete(judgement.letter)
            report(judgement)

    async def _without_dropped_months(self, judgements: Sequence[Judgement]) -> list[Judgement]:
        standing = Standing(store=self.aggregator.store, tables=self.tables)
        now = self.aggregator.clock.now()
        months = {_month_of(event) for judgement in judgements for event in judgement.events}
        refused = {month: await standing.refusal(month, now) for month in sorted(months)}
        return [
            replace(
                judgement,
                events=tuple(e for e in judgement.events if not refused[_month_of(e)]),
                refusals=(
                    *judgement.refusals,
                    *(
                        f"{Reason.TOO_LATE}: {text}"
                        for event in judgement.events
                        if (text := refused[_month_of(event)])
                    ),
                ),
            )
            for judgement in judgements
        ]

    async def _delete(self, letter: StoredLetter) -> None:
        # A conflict means that another replay has deleted it.
        await self.aggregator.store.write(DEAD_LETTERS_TABLE, letter.day, delete=letter.rows)


def _without_refused(judgement: Judgement, refused: Mapping[EventKey, Refusal]) -> Judgement:
    """The judgement once the ledger has refused some of its events."""
    if not refused:
        return judgement
    taken = tuple(e for e in judgement.events if (e.subject, e.id) not in refused)
    found = [refused[e.subject, e.id] for e in judgement.events if (e.subject, e.id) in refused]
    refusals = dict.fromkeys(f"{each.reason}: {each.detail}" for each in found)
    return replace(judgement, events=taken, refusals=(*judgement.refusals, *refusals))


def _continues(place: LetterKey, row: Row) -> bool:
    is_part = row.key.startswith(place.part_row_key(""))
    return is_part and parse_letter_row_key(place.day, row.key) is None


def _month_of(event: Countable) -> Window:
    return window_of(event.time, Period.MONTH)


def _letter(place: LetterKey, rows: Sequence[Row]) -> StoredLetter:
    first = rows[0].columns
    enqueued_at = first.get("EnqueuedAt")
    return StoredLetter(
        key=str(place),
        reason=str(first.get("Reason", "")),
        detail=str(first.get("Detail", "")),
        hub=str(first.get("Hub", "")),
        hub_partition=str(first.get("HubPartition", "")),
        sequence_number=place.sequence_number,
        enqueued_at=enqueued_at if isinstance(enqueued_at, datetime) else None,
        body=_body(rows),
        day=place.day,
        rows=tuple(Row(key=row.key, columns={}, etag=row.etag) for row in rows),
    )


def _body(rows: Sequence[Row]) -> bytes | None:
    columns = {name: value for row in rows for name, value in row.columns.items()}
    packed: list[bytes] = []
    while isinstance(part := columns.get(f"BodyGzip{len(packed)}"), bytes):
        packed.append(part)
    if not packed:
        return str(columns.get("Body", "")).encode()
    try:
        return gzip.decompress(b"".join(packed))
    except (EOFError, OSError, zlib.error):
        return None
