"""Shared by tests of closed months: a store with calls, closing it, and what the books then say."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from meter.adjustment import Countable
from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions, call_row_key, ledger_partition, ledger_table
from meter.ledger.rows import read_sum_row
from meter.ports import HubPartition, HubReader
from meter.upkeep.closing.close import Closing, Refused
from meter.upkeep.closing.corrections import closed_total, corrections
from meter.upkeep.closing.header import Header
from meter.upkeep.closing.proof import Proof
from meter.upkeep.closing.prove import Prover
from meter.upkeep.closing.snapshot import read_closed
from meter.window import Period, Window, window_of
from tests.fakes.gateway import FakeClock
from tests.support.events import event_id, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import Store

OCTOBER, NOVEMBER, DECEMBER = Window("2026-10"), Window("2026-11"), Window("2026-12")
IN_OCTOBER = datetime(2026, 10, 20, 7, 30, tzinfo=UTC)
IN_NOVEMBER = datetime(2026, 11, 3, 9, 0, tzinfo=UTC)
LATER_IN_NOVEMBER = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
IN_DECEMBER = datetime(2026, 12, 2, 9, 0, tzinfo=UTC)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class FakeHub:
    """`meter.ports.HubReader` in memory: partitions of messages, numbered from `first`."""

    name: str = "ns/usage"
    messages: dict[str, Sequence[tuple[datetime, bytes]]] = field(default_factory=lambda: {"0": ()})
    first: int = 0
    failure: Exception | None = None

    async def partitions(self) -> Sequence[HubPartition]:
        if self.failure is not None:
            raise self.failure
        return [
            HubPartition(
                id=name,
                first_number=self.first,
                last_number=self.first + len(held) - 1,
                last_enqueued_at=held[-1][0] if held else NEVER,
                is_empty=not held,
            )
            for name, held in self.messages.items()
        ]

    async def read(self, partition: str, *, first: int, last: int) -> AsyncIterator[bytes]:
        for number in range(first, last + 1):
            yield self.messages[partition][number - self.first][1]


async def count(store: Store, *events: Countable, at: datetime = IN_NOVEMBER) -> None:
    """Count events at a moment, by a newly started aggregator."""
    store.time = at
    await aggregator_on(store, at).count(events)


def october_call(number: int, **changes: Any) -> Countable:
    """A call that ended in October."""
    return usage_event(number, **{"time": IN_OCTOBER, **changes})


async def october(calls: int = 3) -> Store:
    """A store with calls of alice and bob in October, counted in time."""
    store = Store()
    events = [
        october_call(n, subject="bob" if n % 3 == 0 else "alice") for n in range(1, calls + 1)
    ]
    await count(store, *events, at=IN_OCTOBER + timedelta(hours=1))
    store.time = IN_NOVEMBER
    return store


async def close(
    store: Store,
    month: Window = OCTOBER,
    *,
    at: datetime = IN_NOVEMBER,
    hub: HubReader | str | None = None,
    **options: Any,
) -> Header | Refused:
    """Close a month at a moment."""
    store.time = at
    closing = Closing(
        store=store,
        tables=store,
        clock=FakeClock(moment=at),
        month=month,
        **{"by": "finance", "attempt": "a1", **options},
    )
    return await closing.run(FakeHub() if hub is None else hub)


async def closed_header(store: Store, month: Window = OCTOBER, **options: Any) -> Header:
    """Close a month that can be closed."""
    header = await close(store, month, **options)
    assert isinstance(header, Header), header
    return header


async def prove(store: Store, number: int = 1, subject: str = "alice", **names: Any) -> Proof:
    """Prove a call of October."""
    return await Prover(store=store).prove(event_id(number), subject, [names.get("month", OCTOBER)])


async def corrected(store: Store, month: Window) -> list[tuple[str, str, int, int]]:
    """The corrections of a month: their days, subjects, calls and tokens."""
    return [
        (each.day.name, each.dimensions.subject, each.sums.calls, each.sums.tokens.total_tokens)
        async for each in corrections(store, month)
    ]


async def booked(store: Store, months: Sequence[Window]) -> dict[tuple[Window, Dimensions], Sums]:
    """What the books of some months say, by the month of the calls: closed numbers and corrections.

    An open month has the ledger's numbers.
    """
    found: dict[tuple[Window, Dimensions], Sums] = {}

    def add(month: Window, dimensions: Dimensions, sums: Sums) -> None:
        found[month, dimensions] = found.get((month, dimensions), Sums()) + sums

    closed = await read_closed(store)
    for month in months:
        if month in closed.by_month:
            for dimensions, sums in (await closed_total(store, month) or {}).items():
                add(month, dimensions, sums)
        else:
            for dimensions, sums in (await ledger_of(store, month)).items():
                add(month, dimensions, sums)
        async for each in corrections(store, month, closed=closed):
            add(each.day.month, each.dimensions, each.sums)
    return found


async def ledger_of(store: Store, month: Window) -> dict[Dimensions, Sums]:
    """The ledger's sums of a month."""
    found: dict[Dimensions, Sums] = {}
    for (partition, key), row in store.tables.get(ledger_table(month), {}).items():
        if key.startswith(f"s|{month.name}|"):
            each = read_sum_row(partition, row)
            found[each.key.dimensions] = each.sums
    return found


def marker_place(number: int, subject: str = "alice") -> tuple[str, str, str]:
    """Where the marker of a call of October is stored."""
    return (
        ledger_table(OCTOBER),
        ledger_partition(subject),
        call_row_key(event_id(number), subject),
    )


def month_after(month: Window) -> Window:
    """The next month."""
    return window_of(month.end, Period.MONTH)
