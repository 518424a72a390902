"""Adjusts counted calls: each adjustment once, in a ledger that stands, and no call below zero.

An adjustment is what it says: its id is made of the call, the counts and the reason. So the same
command line means the same adjustment, however often it is run and whatever became of it before.
Its time is that of the first attempt, which the call's note keeps (`adjusted.py`).
"""

import json
from copy import replace
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from meter.adjustment import (
    MAX_REASON_CHARS,
    Adjustment,
    CountedAdjustment,
    encode_adjustment,
)
from meter.errors import TableMissing
from meter.ledger.adjusting.notes import (
    BelowZero,
    Note,
    NotedCall,
    Notes,
    check_floor,
    content_of,
)
from meter.ledger.aggregator import Aggregator
from meter.ledger.decode import Message
from meter.ledger.keys import call_row_key, ledger_partition, ledger_table
from meter.ledger.markers import marker_row, read_marker
from meter.ports import Row, RowStore, Tables
from meter.upkeep.standing import Standing, standing_months
from meter.usage import (
    NO_USAGE,
    CountedCall,
    TokenUsage,
    format_time,
    is_writable,
)
from meter.window import Period, Window, window_of

SOURCE = "/aoai-meter/adjust"


class AdjustmentRefused(Exception):
    """The adjustment cannot be counted; nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an operator asks for. Without a time it counts now, without an id under its content's.

    `again` counts what was counted before once more, under the id that is given.
    """

    subject: str
    call_id: UUID
    reason: str
    usage: TokenUsage
    time: datetime | None = None
    id: UUID | None = None
    again: bool = False

    @property
    def content(self) -> UUID:
        """An id that is the same for the same adjustment; like any event id, a UUIDv7."""
        return content_of(self.subject, self.call_id, self.reason, self.usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An adjustment that can be counted, or that is counted already."""

    adjustment: Adjustment
    note: Note
    call: NotedCall
    is_counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjuster:
    """Plans adjustments, which only reads, and counts them."""

    aggregator: Aggregator
    tables: Tables

    async def plan(self, wanted: Wanted) -> Planned:
        """What would be counted, as far as can be said now.

        Raises ValueError for what can never be meant, AdjustmentRefused, and StorageUnavailable.
        """
        store = self.aggregator.store
        call = await find_call(store, self.tables, wanted.subject, wanted.call_id)
        if call is None:
            raise AdjustmentRefused(
                f"no call {wanted.call_id} of subject {wanted.subject!r} is counted"
            )
        try:
            notes = await call.read()
        except ValueError as exc:
            raise AdjustmentRefused(f"{ledger_table(call.month)}: {exc}") from exc
        known = _known_note(notes, wanted)
        note = known or Note(
            id=wanted.id or wanted.content,
            content=wanted.content,
            time=(wanted.time or self.aggregator.clock.now()).astimezone(UTC),
            usage=wanted.usage,
        )
        adjustment = make_adjustment(call.call, wanted, note)
        is_counted = note.is_counted
        if known is None:
            is_counted = await self._is_counted(adjustment)
        if not is_counted:
            if known is None:
                check_floor(call.call, notes, wanted.usage)
            await self._check_time(adjustment)
        return Planned(adjustment=adjustment, note=note, call=call, is_counted=is_counted)

    async def count(self, planned: Planned) -> tuple[Adjustment, bool]:
        """Count it; gives it as it is counted, and whether that happened only now.

        Its time can be another one than planned if somebody else was faster. Raises
        AdjustmentRefused and StorageUnavailable; after the latter it must be planned again.
        """
        if planned.is_counted:
            if planned.note.is_counted:
                # A repeat, which shows its sums: an earlier attempt may have ended before that.
                await self.aggregator.count([planned.adjustment])
            return planned.adjustment, False
        try:
            note = await planned.call.note(planned.note)
        except BelowZero as exc:
            raise AdjustmentRefused(str(exc)) from exc
        except TableMissing as exc:
            raise AdjustmentRefused(f"{exc} was dropped just now") from exc
        if note.content != planned.note.content:
            raise AdjustmentRefused(_other_content(note))
        adjustment = replace(planned.adjustment, time=note.time)
        report = await self.aggregator.count([adjustment])
        for refusal in report.refused.values():
            await planned.call.remove(note.id)
            raise AdjustmentRefused(f"{refusal.reason}: {refusal.detail}")
        if not report.new_calls:
            try:
                await self._is_counted(adjustment)
            except AdjustmentRefused:
                await planned.call.remove(note.id)
                raise
        await planned.call.mark_counted(note)
        return adjustment, bool(report.new_calls)

    async def _is_counted(self, adjustment: Adjustment) -> bool:
        """Whether it is counted in any month. Raises AdjustmentRefused if its id is another's."""
        store = self.aggregator.store
        found = await find_marker(store, self.tables, adjustment.subject, adjustment.id)
        if found is None:
            return False
        _, row = found
        if _summary(row) != _summary(marker_row(adjustment)):
            raise AdjustmentRefused(
                f"the id {adjustment.id} stands for something else that is counted: "
                f"{row.columns.get('Call')}"
            )
        return True

    async def _check_time(self, adjustment: Adjustment) -> None:
        message = Message(
            body=encode_adjustment(adjustment), hub_partition="adjust", sequence_number=0
        )
        if refused := self.aggregator.decode([message]).dead_letters:
            raise AdjustmentRefused(refused[0].detail)
        standing = Standing(store=self.aggregator.store, tables=self.tables)
        month = window_of(adjustment.time, Period.MONTH)
        if text := await standing.refusal(month, self.aggregator.clock.now()):
            raise AdjustmentRefused(text)


async def find_call(
    store: RowStore, tables: Tables, subject: str, event_id: UUID
) -> NotedCall | None:
    """The call as it was counted; None if it was not.

    Raises StorageUnavailable, and AdjustmentRefused if its marker cannot be read.
    """
    found = await find_marker(store, tables, subject, event_id)
    if found is None:
        return None
    month, row = found
    try:
        call = read_marker(row)
    except ValueError as exc:
        raise AdjustmentRefused(f"{ledger_table(month)}: {exc}") from exc
    if isinstance(call, CountedAdjustment):
        return None
    return NotedCall(store=store, subject=subject, call_id=event_id, call=call, month=month)


async def find_marker(
    store: RowStore, tables: Tables, subject: str, event_id: UUID
) -> tuple[Window, Row] | None:
    """The marker of that id, in whatever month it stands. Raises StorageUnavailable.

    An id holds the call's start, but the call counts in the month of its end, as the clock of its
    instance shows it, and an adjustment in any month.
    """
    key = call_row_key(event_id, subject)
    for month in await standing_months(tables):
        found = await store.read(ledger_table(month), ledger_partition(subject), [key])
        if key in found:
            return month, found[key]
    return None


def make_adjustment(call: CountedCall, wanted: Wanted, note: Note) -> Adjustment:
    """The adjustment of that call. Raises ValueError that says what is accepted."""
    reason = wanted.reason.strip()
    if not 0 < len(reason) <= MAX_REASON_CHARS or not is_writable(reason):
        raise ValueError(f"the reason must be a text of 1 to {MAX_REASON_CHARS} characters")
    if wanted.usage == NO_USAGE:
        raise ValueError("at least one count must be other than 0")
    return Adjustment(
        id=note.id,
        source=SOURCE,
        time=note.time,
        subject=wanted.subject,
        refers_to=wanted.call_id,
        reason=reason,
        client_app=call.client_app,
        deployment=call.deployment,
        model=call.model,
        backend=call.backend,
        tier=call.tier,
        context=call.context,
        usage=wanted.usage,
    )


def _known_note(notes: Notes, wanted: Wanted) -> Note | None:
    """The note of an earlier attempt. Raises AdjustmentRefused if it is of something else."""
    same = [each for each in notes if each.content == wanted.content]
    if wanted.id is not None:
        same = [each for each in notes if each.id == wanted.id] or same
    if not same or (wanted.again and same[0].id != wanted.id):
        return None
    note = same[0]
    if note.content != wanted.content:
        raise AdjustmentRefused(_other_content(note))
    is_other_id = wanted.id not in {None, note.id}
    is_other_time = wanted.time is not None and wanted.time != note.time
    if is_other_id or is_other_time:
        raise AdjustmentRefused(
            f"the call was adjusted so before, as {note.id} at {format_time(note.time)}: "
            "--again adjusts it once more"
        )
    return note


def _other_content(note: Note) -> str:
    return (
        f"the id {note.id} stands for another adjustment of this call, with other counts or "
        "another reason"
    )


def _summary(marker: Row) -> object:
    try:
        return json.loads(str(marker.columns.get("Call")))
    except ValueError:
        return None
