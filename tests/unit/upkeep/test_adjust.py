"""Adjusting a call: once by content, never below zero, in a ledger that stands."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.errors import StorageUnavailable
from meter.ledger.markers import read_marker
from meter.ledger.rows import read_sums
from meter.upkeep.adjust import Adjuster, AdjustmentRefused, Wanted, find_call
from meter.usage import NO_USAGE, TokenUsage, new_event_id
from tests.fakes.rows import Fault
from tests.support.events import NOW, adjustment, event_id, message, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import ALICE, LEDGER, MONTH_SUM, Store, rebuild

CALL = usage_event(1, time=NOW)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def store() -> Store:
    return Store()


async def counted(store: Store, now: datetime = LATER) -> Adjuster:
    """An operator's command, where one call of 10 and 5 tokens is counted."""
    await aggregator_on(store).handle([message(CALL)])
    return operator(store, now)


def operator(store: Store, now: datetime = LATER) -> Adjuster:
    return Adjuster(aggregator=aggregator_on(store, now), tables=store)


def wanted(prompt: int = -4, **changes: object) -> Wanted:
    usage = TokenUsage(prompt_tokens=prompt, total_tokens=prompt)
    asked = Wanted(subject="alice", call_id=CALL.id, reason="filtered", usage=usage)
    return replace(asked, **changes)  # type: ignore[arg-type]  # changes are fields


async def adjust(adjuster: Adjuster, asked: Wanted) -> bool:
    """Whether it was counted only now."""
    return (await adjuster.count(await adjuster.plan(asked)))[1]


def adjusted(store: Store) -> int:
    """The sum of all prompt adjustments in the ledgers, by their markers."""
    return sum(
        read_marker(row).usage.prompt_tokens
        for table, rows in store.tables.items()
        if table.startswith("Ledger")
        for (_, key), row in rows.items()
        if key.startswith("c|") and "adjusts" in str(row.columns["Call"])
    )


def shown(store: Store) -> int:
    """The sum of all prompt adjustments in the months' views."""
    rows = store.rows("UsageByMonth").values()
    return sum(read_sums(columns).adjusted.prompt_tokens for columns in rows)


async def test_the_same_adjustment_is_counted_once(store: Store) -> None:
    """Whatever the time of the second run: the first one's time holds."""
    adjuster = await counted(store)
    first = await adjuster.plan(wanted())
    news = [(await adjuster.count(first))[1]]
    for now in (LATER, LATER + timedelta(days=20)):
        again = operator(store, now)
        planned = await again.plan(wanted(reason=" filtered "))
        assert (planned.adjustment, planned.is_counted) == (first.adjustment, True)
        news.append((await again.count(planned))[1])

    assert news == [True, False, False]
    assert (adjusted(store), shown(store)) == (-4, -4)
    assert first.adjustment.time == LATER


@pytest.mark.parametrize(
    "other",
    [
        wanted(-3),
        wanted(reason="another"),
        wanted(id=event_id(77), again=True),
    ],
    ids=["counts", "reason", "again"],
)
async def test_another_adjustment_is_counted_beside_it(store: Store, other: Wanted) -> None:
    """Other counts, another reason, or the operator's word that it is meant twice."""
    adjuster = await counted(store)
    await adjust(adjuster, wanted())

    assert await adjust(adjuster, other)
    assert not await adjust(adjuster, other)
    assert adjusted(store) == -4 + other.usage.prompt_tokens


async def test_an_id_is_looked_up_in_every_month(store: Store) -> None:
    """An adjustment of October's call that counts in November is found there by its id alone."""
    adjuster = await counted(store)
    october = replace(wanted(id=event_id(5)), time=NOW - timedelta(days=30))

    assert await adjust(adjuster, october)
    assert not await adjust(adjuster, wanted(id=event_id(5)))
    assert not await adjust(adjuster, wanted())
    assert adjusted(store) == -4


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (wanted(id=CALL.id), "stands for something else that is counted"),
        (wanted(id=event_id(2)), "stands for something else that is counted"),
        (wanted(id=adjustment(3).id), "stands for something else that is counted"),
        (wanted(id=event_id(8)), "stands for another adjustment of this call"),
        (wanted(-1, id=event_id(9)), "was adjusted so before, as .* --again"),
        (wanted(-1, time=NOW), "was adjusted so before, as .* at 2026-11-23T07:35.*--again"),
        (wanted(call_id=event_id(9)), "no call .* of subject 'alice' is counted"),
        (wanted(call_id=adjustment(3).id), "no call"),
        (wanted(subject="bob"), "no call .* of subject 'bob'"),
        (wanted(time=NOW - timedelta(days=101)), "days"),
        (wanted(time=NOW + timedelta(days=1)), "ahead"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    store: Store, asked: Wanted, text: str
) -> None:
    """An id that means something else, a repeat at another time, a call that is not counted."""
    adjuster = await counted(store)
    await adjuster.aggregator.handle([message(usage_event(2), usage_event(3), adjustment(3))])
    await adjust(adjuster, wanted(-2, id=event_id(8), reason="other"))
    await adjust(adjuster, wanted(-1))
    before = {name: dict(rows) for name, rows in store.tables.items()}

    with pytest.raises(AdjustmentRefused, match=text):
        await adjuster.plan(asked)
    assert store.tables == before


@pytest.mark.parametrize(
    ("asked", "accepted"),
    [
        (wanted(reason=" "), "a text of 1 to 500 characters"),
        (wanted(reason="r" * 501), "a text of 1 to 500 characters"),
        (wanted(reason="\ud800"), "a text of 1 to 500 characters"),
        (wanted(usage=NO_USAGE), "at least one count must be other than 0"),
        (wanted(-11), "prompt_tokens of the call is 10.*: -11 would make it negative"),
        (wanted(-7), "prompt_tokens of the call is 10, adjusted by -4 so far: -7 would make"),
    ],
)
async def test_invalid_arguments_are_refused(store: Store, asked: Wanted, accepted: str) -> None:
    """Before anything is written; a call has what its adjustments left of it."""
    adjuster = await counted(store)
    await adjust(adjuster, wanted())

    with pytest.raises(ValueError, match=accepted):
        await adjuster.plan(asked)


async def test_what_was_added_can_be_taken_away_again(store: Store) -> None:
    """Once it is counted; and not more than that."""
    adjuster = await counted(store)
    await adjust(adjuster, wanted(5))

    assert await adjust(adjuster, wanted(-15))
    with pytest.raises(ValueError, match="adjusted by -10 so far"):
        await adjuster.plan(wanted(-1))


async def test_what_was_only_meant_to_be_added_cannot_be_taken_away(store: Store) -> None:
    """The first operator's command died between its note and its count."""
    adjuster = await counted(store)
    store.plan("write", Fault.NOTHING, Fault.NOTHING, Fault.UNAVAILABLE)
    with pytest.raises(StorageUnavailable):
        await adjust(adjuster, wanted(5))

    with pytest.raises(ValueError, match="prompt_tokens of the call is 10: -15 would"):
        await adjuster.plan(wanted(-15))
    assert await adjust(operator(store), wanted(5))
    assert await adjust(operator(store), wanted(-15))


async def test_two_operators_cannot_take_what_only_one_may(store: Store) -> None:
    """Both planned when there was enough; the second one's count is refused."""
    one, two = await counted(store), operator(store)
    first, second = await one.plan(wanted(-6)), await two.plan(wanted(-7))
    await one.count(first)

    with pytest.raises(AdjustmentRefused, match="adjusted by -6 so far: -7 would make"):
        await two.count(second)
    assert adjusted(store) == -6


async def test_an_id_that_two_calls_adjustments_share_counts_for_the_first(store: Store) -> None:
    """The other one is refused, and leaves no note that would hold its call's tokens."""
    adjuster = await counted(store)
    await adjuster.aggregator.handle([message(usage_event(2))])
    first = await adjuster.plan(wanted(id=event_id(7)))
    second = await adjuster.plan(wanted(id=event_id(7), call_id=event_id(2)))
    await adjuster.count(first)
    with pytest.raises(AdjustmentRefused, match="stands for something else"):
        await adjuster.count(second)

    assert await adjust(adjuster, wanted(-10, call_id=event_id(2)))
    assert adjusted(store) == -14


async def test_the_call_is_found_in_whatever_month_it_stands(store: Store) -> None:
    """A clock set back over midnight on the first: an id of November, counted in October."""
    turn = datetime(2026, 11, 1, tzinfo=UTC)
    strange = usage_event(1, id=new_event_id(turn, bytes(10)), time=turn - timedelta(seconds=1))
    long = usage_event(
        2, id=new_event_id(turn - timedelta(days=35), bytes(10)), time=turn + timedelta(hours=1)
    )
    await aggregator_on(store, turn + timedelta(days=1)).handle([message(strange, long)])
    found = [await find_call(store, store, "alice", each.id) for each in (strange, long)]

    assert [call.month.name for call in found if call] == ["2026-10", "2026-11"]
    assert await adjust(operator(store, turn + timedelta(days=1)), wanted(call_id=strange.id))


async def test_a_dropped_month_gets_no_new_ledger(store: Store) -> None:
    """Its views are there, its ledger is not: the operator's shell keeps longer than the app."""
    adjuster = await counted(store)
    september = datetime(2026, 9, 20, tzinfo=UTC)
    await aggregator_on(store).handle([message(usage_event(2, time=september))])
    await store.drop("Ledger202609")

    with pytest.raises(AdjustmentRefused, match="Ledger202609 was dropped after its retention"):
        await adjuster.plan(wanted(time=september))
    assert "Ledger202609" not in store.tables
    assert await adjust(adjuster, wanted(time=datetime(2026, 10, 20, tzinfo=UTC)))


async def test_a_call_whose_ledger_is_dropped_meanwhile_is_not_adjusted(store: Store) -> None:
    """Nor does its ledger begin anew with a note."""
    adjuster = await counted(store)
    planned = await adjuster.plan(wanted())
    await store.drop(LEDGER)

    with pytest.raises(AdjustmentRefused, match="Ledger202611 was dropped just now"):
        await adjuster.count(planned)
    assert LEDGER not in store.tables


async def test_what_no_ledger_takes_leaves_no_note(store: Store) -> None:
    """The sum that it adds to is damaged: refused, named, and the call's tokens are free again."""
    adjuster = await counted(store)
    store.tamper(LEDGER, ALICE, MONTH_SUM, TotalTokens="15")
    with pytest.raises(AdjustmentRefused, match="column TotalTokens"):
        await adjust(adjuster, wanted(-10))
    store.tamper(LEDGER, ALICE, MONTH_SUM, TotalTokens=15)

    assert await adjust(operator(store), wanted(-10, reason="another"))


async def test_a_rebuild_takes_the_notes_for_what_they_are(store: Store) -> None:
    """Neither markers nor sums; one that cannot be read is reported."""
    adjuster = await counted(store)
    await adjust(adjuster, wanted())
    sound = await rebuild(store)
    store.tamper(LEDGER, ALICE, f"a|{CALL.id}|alice", Adjustments="[{}]")
    damaged = await rebuild(store)

    assert sound.differences == []
    assert [each.kind for each in damaged.differences] == ["unreadable"]
    with pytest.raises(
        AdjustmentRefused, match=rf"Ledger202611: a\|{CALL.id}\|alice cannot be read"
    ):
        await adjuster.plan(wanted(-1))


async def test_a_damaged_marker_is_named(store: Store) -> None:
    """By its table and key."""
    adjuster = await counted(store)
    store.tamper(LEDGER, ALICE, f"c|{CALL.id}|alice", Call="{")

    with pytest.raises(
        AdjustmentRefused, match=rf"Ledger202611: c\|{CALL.id}\|alice cannot be read"
    ):
        await adjuster.plan(wanted())


ASKED = [wanted(-6), wanted(-7), wanted(3), wanted(-6, reason="another")]


async def _try(store: Store, asked: Wanted, most: int = 6) -> bool:
    """Run one command line until its outcome is known; whether it is counted."""
    for _ in range(most):
        try:
            await adjust(operator(store), asked)
        except StorageUnavailable:
            continue
        except (AdjustmentRefused, ValueError):
            return False
        return True
    store.forget_plans()
    return await _try(store, asked, most=1)


@settings(max_examples=100, deadline=None)
@given(
    asked=st.lists(st.sampled_from(ASKED), min_size=2, max_size=4),
    pauses=st.lists(st.integers(1, 6), max_size=40),
    faults=st.lists(st.sampled_from([*Fault, Fault.NOTHING, Fault.NOTHING]), max_size=25),
)
@example(asked=[ASKED[0], ASKED[0]], pauses=[], faults=[Fault.ANSWER_LOST] * 6)
@example(asked=[ASKED[0], ASKED[1]], pauses=[], faults=[])
async def test_no_schedule_takes_a_call_below_zero_or_counts_a_command_twice(
    asked: list[Wanted], pauses: list[int], faults: list[Fault]
) -> None:
    """Operators at once, answers lost, commands run again until they know."""
    store = Store()
    await counted(store)
    store.pauses.extend(pauses)
    store.plan("write", *faults)
    done = await asyncio.gather(*(_try(store, each) for each in asked))

    store.forget_plans()
    once = {each.content: each for each, is_done in zip(asked, done, strict=True) if is_done}
    assert adjusted(store) == sum(each.usage.prompt_tokens for each in once.values())
    assert adjusted(store) >= -10
    assert (await rebuild(store)).summary.is_sound
    assert shown(store) == adjusted(store)
