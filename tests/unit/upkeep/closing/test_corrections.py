"""Corrections: what arrives for a closed month, in the month in which it arrives."""

from datetime import datetime, timedelta

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions
from meter.upkeep.closing.close import Refused
from meter.upkeep.closing.corrections import closed_total, counts_anything, less
from meter.upkeep.closing.snapshot import read_closed
from meter.usage import TokenUsage
from meter.window import Window
from tests.fakes.rows import Fault
from tests.support.closing import (
    DECEMBER,
    IN_DECEMBER,
    IN_NOVEMBER,
    IN_OCTOBER,
    LATER_IN_NOVEMBER,
    NOVEMBER,
    OCTOBER,
    close,
    closed_header,
    corrected,
    count,
    october,
    october_call,
)
from tests.support.events import adjustment, usage_event
from tests.support.rebuilding import Store

JANUARY = Window("2027-01")
SEPTEMBER = Window("2026-09")


@pytest.fixture
async def store() -> Store:
    """October closed in November, which has a call of its own."""
    store = await october()
    await closed_header(store)
    await count(store, usage_event(50, time=IN_NOVEMBER))
    return store


async def test_a_closed_month_without_late_calls_has_no_corrections(store: Store) -> None:
    """Nor has a month that was never closed, nor a future one."""
    for month in (SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER):
        assert await corrected(store, month) == []


async def test_a_late_call_is_a_correction_of_the_month_in_which_it_arrives(store: Store) -> None:
    """By the day of the call; the closed total stays."""
    before = await closed_total(store, OCTOBER)
    await count(store, october_call(9), october_call(10, subject="eve"), at=LATER_IN_NOVEMBER)

    assert await corrected(store, NOVEMBER) == [
        ("2026-10-20", "alice", 1, 15),
        ("2026-10-20", "eve", 1, 15),
    ]
    assert await corrected(store, OCTOBER) == []
    assert await corrected(store, DECEMBER) == []
    assert await closed_total(store, OCTOBER) == before


async def test_closing_the_month_of_arrival_keeps_its_corrections(store: Store) -> None:
    """What arrives from then on belongs to the next month."""
    await count(store, october_call(9), at=LATER_IN_NOVEMBER)
    header = await closed_header(store, NOVEMBER, at=IN_DECEMBER)
    await count(store, october_call(10), usage_event(51), at=IN_DECEMBER)

    assert header.document["corrected"] == ["2026-10"]
    assert await corrected(store, NOVEMBER) == [("2026-10-20", "alice", 1, 15)]
    assert await corrected(store, DECEMBER) == [
        ("2026-10-20", "alice", 1, 15),
        ("2026-11-23", "alice", 1, 15),
    ]


async def test_an_adjustment_of_a_closed_month_is_a_correction(store: Store) -> None:
    """In its own counts."""
    await count(store, adjustment(1, time=IN_OCTOBER), at=LATER_IN_NOVEMBER)
    closed = await closed_header(store, NOVEMBER, at=IN_DECEMBER)

    assert await corrected(store, NOVEMBER) == [("2026-10-20", "alice", 0, 0)]
    assert closed.totals.get("adjustments", 0) == 0
    assert len(store.rows("Closed202611xa1", "corrections")) == 1
    (row,) = store.rows("Closed202611xa1", "corrections").values()
    assert (row["Adjustments"], row["AdjustedTotalTokens"]) == (1, -5)


async def test_a_month_that_is_closed_late_takes_no_corrections_from_before(store: Store) -> None:
    """What arrives after a closing cannot belong to a month that ended before it."""
    await count(store, usage_event(60, time=IN_OCTOBER - timedelta(days=30)), at=IN_NOVEMBER)
    await closed_header(store, SEPTEMBER, at=IN_DECEMBER, attempt="a2")
    await count(store, usage_event(61, time=IN_OCTOBER - timedelta(days=30)), at=IN_DECEMBER)

    assert [each[1:] for each in await corrected(store, DECEMBER)] == [("alice", 1, 15)]
    assert await corrected(store, NOVEMBER) == []


async def test_a_month_between_that_stays_open_is_passed_over(store: Store) -> None:
    """December is closed, November is not: what arrived so far is in December's books."""
    await count(store, october_call(9), at=IN_DECEMBER)
    await count(store, usage_event(70, time=IN_DECEMBER), at=IN_DECEMBER)
    await closed_header(store, DECEMBER, at=datetime.fromisoformat("2027-01-03T00:00Z"))
    await closed_header(
        store, NOVEMBER, at=datetime.fromisoformat("2027-01-04T00:00Z"), attempt="a2"
    )
    await count(store, october_call(10), at=datetime.fromisoformat("2027-01-05T00:00Z"))

    assert await corrected(store, DECEMBER) == [("2026-10-20", "alice", 1, 15)]
    assert await corrected(store, NOVEMBER) == []
    assert [each[0] for each in await corrected(store, JANUARY)] == ["2026-10-20"]


async def test_a_closed_month_outlives_its_ledger(store: Store) -> None:
    """Its numbers stay, and what arrived before is taken from the views."""
    await count(store, october_call(9), at=LATER_IN_NOVEMBER)
    total = await closed_total(store, OCTOBER)
    await store.drop("Ledger202610")
    live = await corrected(store, NOVEMBER)
    header = await closed_header(store, NOVEMBER, at=IN_DECEMBER)
    store.tamper(
        "UsageByMonth", "2026-10", next(iter(store.rows("UsageByMonth", "2026-10"))), Calls=99
    )

    assert await closed_total(store, OCTOBER) == total
    assert live == await corrected(store, NOVEMBER) == [("2026-10-20", "alice", 1, 15)]
    assert (header.document["corrected"], header.document["settled"]) == (["2026-10"], ["2026-10"])
    assert (await read_closed(store)).arrival_month(OCTOBER) is None
    assert await corrected(store, DECEMBER) == []


async def test_many_corrections_are_stored(store: Store) -> None:
    """In more than one transaction."""
    late = [october_call(200 + n, subject=f"late-{n}") for n in range(120)]
    await count(store, *late, at=LATER_IN_NOVEMBER)
    await closed_header(store, NOVEMBER, at=IN_DECEMBER)

    assert len(await corrected(store, NOVEMBER)) == 120


async def test_corrections_of_an_attempt_that_breaks_off_are_none(store: Store) -> None:
    """They are stored with the next."""
    await count(store, october_call(9), at=LATER_IN_NOVEMBER)
    store.plan("write", *[Fault.NOTHING] * 5, Fault.UNAVAILABLE)
    with pytest.raises(StorageUnavailable):
        await close(store, NOVEMBER, at=IN_DECEMBER)
    store.forget_plans()
    assert await corrected(store, NOVEMBER) == [("2026-10-20", "alice", 1, 15)]
    result = await close(store, NOVEMBER, at=IN_DECEMBER, attempt="a2")

    assert not isinstance(result, Refused)
    assert await corrected(store, NOVEMBER) == [("2026-10-20", "alice", 1, 15)]


def test_a_difference_counts_each_number() -> None:
    """Calls, tokens and adjustments, with their signs."""
    one = Sums(calls=3, tokens=TokenUsage(images=2), adjustments=1, adjusted=TokenUsage(seconds=-4))
    other = Sums(calls=1, failed_calls=1, tokens=TokenUsage(images=2))

    assert less(one, other) == Sums(
        calls=2, failed_calls=-1, adjustments=1, adjusted=TokenUsage(seconds=-4)
    )
    assert not counts_anything(less(one, one))
    for each in (Sums(missing_calls=-1), Sums(tokens=TokenUsage(images=1)), less(other, one)):
        assert counts_anything(each)


async def test_the_total_of_an_open_month_is_none(store: Store) -> None:
    """A closed one is by dimensions."""
    total = await closed_total(store, OCTOBER)

    assert await closed_total(store, NOVEMBER) is None
    assert total is not None
    assert {each.subject for each in total} == {"alice", "bob"}
    assert all(isinstance(each, Dimensions) for each in total)
