"""Admits adjustments that leave their calls at zero or above, wherever they come from.

An adjustment is noted beside its call before it is counted (`notes.py`), also one from a producer on
the hub or from a dead letter. One whose call is not counted, or that would take a count below zero,
is refused. What is counted already is admitted: it is a repeat.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from meter.adjustment import Adjustment, CountedAdjustment, beside
from meter.errors import TableMissing
from meter.ledger.adjusting.notes import BelowZero, Note, NotedCall, content_of, moment_of
from meter.ledger.decode import MAX_AHEAD, Reason, Refusal
from meter.ledger.keys import call_row_key, ledger_partition, ledger_table
from meter.ledger.markers import marker_row, read_marker
from meter.ports import Clock, Row, RowStore
from meter.window import Period, Window, window_of

CALLS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """An adjustment that is noted and may be counted; `call` is None for a repeat without a call."""

    adjustment: Adjustment
    note: Note
    call: NotedCall | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Notes adjustments before they are counted, and says afterwards what became of them."""

    store: RowStore
    clock: Clock
    retention: timedelta

    async def admit(
        self, adjustments: Sequence[Adjustment]
    ) -> Mapping[Adjustment, Admitted | Refusal]:
        """Note each adjustment, or say why it is refused. Raises StorageUnavailable."""
        by_call: defaultdict[object, list[Adjustment]] = defaultdict(list)
        for each in adjustments:
            by_call[each.subject, each.refers_to].append(each)
        limit = asyncio.Semaphore(CALLS_AT_ONCE)
        found: dict[Adjustment, Admitted | Refusal] = {}

        async def admit(same_call: Sequence[Adjustment]) -> None:
            async with limit:
                call = await self._call(same_call[0])
                for each in same_call:
                    found[each] = await self._admit(each, call)

        await asyncio.gather(*map(admit, by_call.values()))
        return found

    async def settle(self, admitted: Admitted) -> None:
        """Note whether it is counted, once it was to be. Raises StorageUnavailable."""
        if admitted.call is None:
            return
        marker = await self._marker(admitted.adjustment)
        if marker is not None and marker.columns == marker_row(admitted.adjustment).columns:
            await admitted.call.mark_counted(admitted.note)
        else:  # refused, or its id is another's
            await admitted.call.remove(admitted.note.id)

    async def _admit(self, adjustment: Adjustment, call: NotedCall | Refusal) -> Admitted | Refusal:
        note = Note(
            id=adjustment.id,
            content=content_of(
                adjustment.subject, adjustment.refers_to, adjustment.reason, adjustment.usage
            ),
            time=adjustment.time,
            usage=adjustment.usage,
        )
        refusal = call if isinstance(call, Refusal) else await _noted(call, note)
        if refusal is None and not isinstance(call, Refusal):
            return Admitted(adjustment=beside(adjustment, call.call), note=note, call=call)
        assert refusal is not None, "without a call there is a refusal"
        is_counted = await self._marker(adjustment) is not None
        return Admitted(adjustment=adjustment, note=note, call=None) if is_counted else refusal

    async def _marker(self, adjustment: Adjustment) -> Row | None:
        table = ledger_table(window_of(adjustment.time, Period.MONTH))
        key = call_row_key(adjustment.id, adjustment.subject)
        return (await self.store.read(table, ledger_partition(adjustment.subject), [key])).get(key)

    async def _call(self, adjustment: Adjustment) -> NotedCall | Refusal:
        key = call_row_key(adjustment.refers_to, adjustment.subject)
        partition = ledger_partition(adjustment.subject)
        for month in self._months(adjustment):
            found = await self.store.read(ledger_table(month), partition, [key])
            if key in found:
                try:
                    call = read_marker(found[key])
                except ValueError as exc:
                    return Refusal(Reason.CANNOT_BE_STORED, f"{ledger_table(month)}: {exc}")
                if isinstance(call, CountedAdjustment):
                    break
                return NotedCall(
                    store=self.store,
                    subject=adjustment.subject,
                    call_id=adjustment.refers_to,
                    call=call,
                    month=month,
                )
        return Refusal(Reason.NO_CALL, f"no call {adjustment.refers_to} of the subject is counted")

    def _months(self, adjustment: Adjustment) -> Sequence[Window]:
        """Where the call can be: about the month of its start, else anywhere in the retention."""
        now = self.clock.now()
        near = (timedelta(0), timedelta(days=1), timedelta(days=-1))
        try:
            made = moment_of(adjustment.refers_to)
            moments = [made + by for by in near]
        except (ValueError, OverflowError):  # no UUIDv7, or of the year 9999
            moments = []
        latest = now + MAX_AHEAD
        days = range(0, self.retention.days + 31, 28)
        moments += [latest - timedelta(days=back) for back in days]
        return list(dict.fromkeys(window_of(each, Period.MONTH) for each in moments))


async def _noted(call: NotedCall, note: Note) -> Refusal | None:
    try:
        noted = await call.note(note)
    except BelowZero as exc:
        return Refusal(Reason.BELOW_ZERO, str(exc))
    except ValueError as exc:
        return Refusal(Reason.CANNOT_BE_STORED, f"{ledger_table(call.month)}: {exc}")
    except TableMissing as exc:
        return Refusal(Reason.NO_CALL, f"{exc} was dropped just now")
    if noted.content != note.content:
        return Refusal(Reason.CANNOT_BE_STORED, f"the id {note.id} stands for another adjustment")
    return None
