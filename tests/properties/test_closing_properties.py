"""Closed months: whatever arrives and is closed in any order, the books add up to the ledger."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.adjustment import Countable
from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions
from meter.upkeep.closing.corrections import closed_total, counts_anything
from meter.upkeep.closing.header import Header
from meter.upkeep.closing.leaf import counts_of_sums
from meter.upkeep.closing.proof import check_proof
from meter.upkeep.closing.prove import NotProvable, Prover
from meter.upkeep.closing.snapshot import read_closed
from meter.window import Period, Window, window_of
from tests.support.closing import booked, close, corrected, count, ledger_of
from tests.support.events import adjustment, event_id, usage_event
from tests.support.rebuilding import Store

MONTHS = tuple(
    map(
        Window,
        (
            "2026-07",
            "2026-08",
            "2026-09",
            "2026-10",
            "2026-11",
            "2026-12",
            *(f"2027-{n:02}" for n in range(1, 8)),
        ),
    )
)
START = datetime(2026, 10, 1, tzinfo=UTC)
SUBJECTS = ("alice", "bob", "b|ö")


@dataclass(frozen=True, slots=True)
class Arrive:
    """Calls, or adjustments of them, arrive: by number; of the month so many before the present one."""

    numbers: tuple[int, ...]
    months_ago: int
    is_adjustment: bool


@dataclass(frozen=True, slots=True)
class Close:
    """The month so many before the present one is closed, if it can be."""

    months_ago: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Days go by."""

    days: int


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(tuple)
STEPS = st.lists(
    st.builds(Arrive, NUMBERS, st.integers(0, 3), st.just(value=False))
    | st.builds(Arrive, NUMBERS, st.integers(0, 3), st.booleans())
    | st.builds(Close, st.integers(1, 3))
    | st.builds(Wait, st.integers(1, 25)),
    min_size=4,
    max_size=10,
)

type Books = Mapping[tuple[Window, Dimensions], Mapping[str, int]]


@settings(max_examples=40, deadline=None)
@given(STEPS)
@example(
    [
        Arrive((1,), 1, is_adjustment=False),
        Close(1),
        Arrive((2,), 1, is_adjustment=False),
        Wait(25),
        Wait(10),
        Close(1),
        Arrive((3,), 2, is_adjustment=False),
        Arrive((1,), 2, is_adjustment=True),
    ]
)
def test_closed_numbers_stay_and_with_corrections_add_up_to_the_ledger(
    steps: list[Arrive | Close | Wait],
) -> None:
    """Each correction is in one month, and none moves once that is closed; closed calls are proven."""
    asyncio.run(_play(steps))


async def _play(steps: list[Arrive | Close | Wait]) -> None:
    store, now = Store(), START
    kept: dict[Window, object] = {}
    roots: dict[Window, str] = {}
    for number, step in enumerate(steps):
        now += timedelta(minutes=10)
        match step:
            case Wait():
                now += timedelta(days=step.days)
            case Arrive():
                await count(store, *_events(step, now), at=now)
            case Close():
                month = _months_before(now, step.months_ago)
                result = await close(store, month, at=now, attempt=f"a{number}")
                if isinstance(result, Header):
                    roots[month] = result.root
                    kept[month] = await _books_of(store, month)
        for closed, before in kept.items():
            assert await _books_of(store, closed) == before, "closed numbers never move"
        assert await _booked(store) == await _ledger(store)
    await _prove(store, roots)


def _events(step: Arrive, now: datetime) -> list[Countable]:
    month = _months_before(now, step.months_ago)
    found: list[Countable] = []
    for number in step.numbers:
        time = min(now, month.start + timedelta(days=number % 28, hours=number % 24))
        subject = SUBJECTS[number % 3]
        if step.is_adjustment:
            found.append(adjustment(number, subject=subject, time=time))
        else:
            found.append(usage_event(number, subject=subject, time=time))
    return found


def _months_before(now: datetime, months: int) -> Window:
    month = window_of(now, Period.MONTH)
    for _ in range(months):
        month = window_of(month.start - timedelta(days=1), Period.MONTH)
    return month


async def _books_of(store: Store, month: Window) -> object:
    return await closed_total(store, month), await corrected(store, month)


async def _booked(store: Store) -> Books:
    return _counts(await booked(store, MONTHS))


async def _ledger(store: Store) -> Books:
    sums = {(m, each): s for m in MONTHS for each, s in (await ledger_of(store, m)).items()}
    return _counts(sums)


def _counts(sums: Mapping[tuple[Window, Dimensions], Sums]) -> Books:
    return {key: counts_of_sums(each) for key, each in sums.items() if counts_anything(each)}


async def _prove(store: Store, roots: Mapping[Window, str]) -> None:
    """Every call that is in a closed total is proven, and no more are than it counts."""
    for month, closed in (await read_closed(store)).by_month.items():
        proven = 0
        for number in range(31):
            for each in (event_id(number), event_id(1_000_000 + number)):
                try:
                    proof = await Prover(store=store).prove(each, SUBJECTS[number % 3], [month])
                except NotProvable:
                    continue
                check_proof(proof.encode(), root=roots[month])
                proven += 1
        assert proven == closed.header.document["leaves"]
