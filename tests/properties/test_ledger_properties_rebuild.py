"""Rebuild: after any delivery, loss or tampering, views equal the ledger, and the ledger its markers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.adjustment import Adjustment, Countable
from meter.errors import StorageUnavailable
from meter.ledger.keys import call_row_key
from meter.upkeep.differences import LEDGER_KINDS
from meter.window import Window
from tests.fakes.rows import Fault
from tests.properties.test_ledger_properties_commit import (
    FAULTS,
    VIEWS,
    expected_sums,
    handled,
    made_event,
    stored_sums,
)
from tests.support.ledger import aggregator_on, sums_in_ledger
from tests.support.rebuilding import Found, Store, rebuild

NOW = datetime(2026, 12, 1, 2, tzinfo=UTC)
MONTHS = (Window("2026-11"), Window("2026-12"))
LEDGERS = ("Ledger202611", "Ledger202612")


@dataclass(frozen=True, slots=True)
class Deliver:
    """A batch, with what goes wrong at its writes. It may not be delivered again."""

    numbers: list[int]
    faults: list[Fault]


@dataclass(frozen=True, slots=True)
class Tamper:
    """A row of a table is changed, deleted or invented by hand."""

    tables: tuple[str, ...]
    place: int
    column: str
    value: object


COLUMNS = st.sampled_from(["Calls", "TotalTokens", "Revision", "Subject", "LastCallAt", "Note"])
OPEN_TEXTS = ['{"window":"2026-11-30T23"}', '{"window":"2026-11-01","revision":3,"calls":1}']
VALUES = st.integers(-1, 50) | st.sampled_from([2**40, "text", 1.5, NOW, *OPEN_TEXTS])
NUMBERS = st.lists(st.integers(0, 40), min_size=1, max_size=6)
DELIVERIES = st.builds(Deliver, NUMBERS, st.lists(FAULTS | st.just(Fault.NOTHING), max_size=8))


def tampering(*tables: str) -> st.SearchStrategy[Tamper]:
    """A column named `delete` removes the row, one named `invent` copies it to another place."""
    columns = COLUMNS | st.sampled_from(["delete", "invent"])
    if tables == LEDGERS:
        columns |= st.sampled_from(["OpenDay", "OpenHour"])
    return st.builds(Tamper, st.just(tables), st.integers(0, 200), columns, VALUES)


def tamper(store: Store, step: Tamper) -> None:
    places = [
        (table, *place)
        for table in step.tables
        for place in sorted(store.tables.get(table, {}))
        if not place[1].startswith(("c|", "a|", "v|"))
    ]
    if not places:
        return
    table, partition, key = places[step.place % len(places)]
    match step.column:
        case "delete":
            store.remove(table, partition, key)
        case "invent" if table in VIEWS:
            store.put(table, partition, f"x{key}", **store.tables[table][partition, key].columns)
        case "invent":
            pass
        case _:
            store.tamper(table, partition, key, **{step.column: step.value})


async def play(store: Store, steps: Sequence[Deliver | Tamper]) -> list[Countable]:
    """The events whose batches were handled completely."""
    safe: list[Countable] = []
    for step in steps:
        match step:
            case Deliver(numbers, faults):
                batch = [made_event(number) for number in numbers]
                store.plan("write", *faults)
                if not await handled(aggregator_on(store, NOW), batch):
                    safe += batch
                store.forget_plans()
            case Tamper():
                tamper(store, step)
    return safe


async def rebuild_all(store: Store, **options: bool) -> list[Found]:
    """Rebuild the existing months, again after an outage."""
    found = []
    for month, ledger in zip(MONTHS, LEDGERS, strict=True):
        while ledger in store.tables:
            try:
                found.append(await rebuild(store, month, **options))
                break
            except StorageUnavailable:
                continue
    return found


def counted(store: Store) -> list[Countable]:
    """The events that have a marker."""
    ids = {key for name in LEDGERS for _, key in store.tables.get(name, {}) if key[0] == "c"}
    return [
        event
        for event in map(made_event, range(41))
        if call_row_key(event.id, event.subject) in ids
    ]


def is_letter(store: Store, event: Countable) -> bool:
    """Whether it is an adjustment that was kept as a dead letter, its call not being counted."""
    letters = store.tables.get("DeadLetters", {}).values()
    bodies = [str(value) for row in letters for value in row.columns.values()]
    return isinstance(event, Adjustment) and any(str(event.id) in body for body in bodies)


def sums(store: Store, tables: Sequence[str]) -> dict[Any, Any]:
    found = stored_sums(store, tables)
    rows = (
        sums_in_ledger(store, name) if name in LEDGERS else store.tables.get(name, {})
        for name in tables
    )
    assert len(found) == sum(map(len, rows))
    return found


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(DELIVERIES | tampering(*VIEWS), max_size=8),
    trouble=st.lists(st.sampled_from([Fault.UNAVAILABLE, Fault.ANSWER_LOST]), max_size=3),
    meanwhile=st.lists(NUMBERS, max_size=4),
    pauses=st.lists(st.integers(0, 4), max_size=60),
    page_rows=st.integers(1, 8),
)
@example(
    steps=[Deliver([1], []), Tamper(VIEWS, 0, "Revision", 50)],
    trouble=[],
    meanwhile=[[5], [9]],
    pauses=[],
    page_rows=1,
)
async def test_after_a_rebuild_the_views_are_the_ledger(
    steps: list[Deliver | Tamper],
    trouble: list[Fault],
    meanwhile: list[list[int]],
    pauses: list[int],
    page_rows: int,
) -> None:
    """Through crashes, tampered views, outages of the rebuild, and calls counted beside it."""
    store = Store(page_rows=page_rows)
    safe = await play(store, steps)
    if trouble:
        store.plan("write", *trouble)
        await rebuild_all(store)
        store.forget_plans()
    store.pauses.extend(pauses)
    more: list[Deliver | Tamper] = [Deliver(numbers, []) for numbers in meanwhile]
    found, also_safe = await asyncio.gather(rebuild_all(store), play(store, more))
    in_markers = counted(store)

    kept = {event.id for event in in_markers}
    lost = [event for event in [*safe, *also_safe] if event.id not in kept]
    assert all(is_letter(store, event) for event in lost)
    assert sums(store, LEDGERS) == sums(store, VIEWS) == expected_sums(in_markers)
    assert not any(each.summary.found.keys() & LEDGER_KINDS for each in found)
    for each in await rebuild_all(store):
        assert each.differences == []


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(DELIVERIES | tampering(*VIEWS), min_size=1, max_size=6),
    damage=st.lists(tampering(*LEDGERS), min_size=1, max_size=6),
)
async def test_a_damaged_ledger_is_repaired_from_its_markers(
    steps: list[Deliver | Tamper], damage: list[Tamper]
) -> None:
    """Whatever happened to its sums, and only on request."""
    store = Store()
    await play(store, [*steps, *damage])
    dry = await rebuild_all(store, is_dry_run=True)
    wet = await rebuild_all(store, repairs_ledger=True)
    again = await rebuild_all(store)

    assert sums(store, LEDGERS) == sums(store, VIEWS) == expected_sums(counted(store))
    assert all(difference.is_repaired for each in wet for difference in each.differences)
    assert all(each.differences == [] for each in again)
    ledger_found = [
        [d.kind for d in each.differences if d.kind in LEDGER_KINDS] for each in (*dry, *wet)
    ]
    assert ledger_found[: len(dry)] == ledger_found[len(dry) :]


def test_the_events_of_these_tests_lie_in_both_months() -> None:
    """Otherwise half of the tests above would check nothing."""
    months = {made_event(number).time.month for number in range(41)}

    assert months == {11, 12}
    assert made_event(0).time + timedelta(days=1) > NOW
