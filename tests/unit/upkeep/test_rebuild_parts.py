"""Rebuilding parts of a month: ranges of ledger partitions, shards of views, one subject."""

from collections import Counter
from copy import replace
from datetime import timedelta

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.keys import LEDGER_PARTITIONS, escape
from meter.ports import Row
from meter.upkeep.differences import Kind
from meter.upkeep.rebuild import Progress, Rebuild, Summary
from meter.usage import ToolUsage
from tests.fakes.gateway import FakeClock
from tests.support.events import NOW, USAGE, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import (
    ALICE,
    BOB,
    BOBS_ROW,
    LEDGER,
    MONTH,
    NAMES,
    VIEW_ROW,
    Store,
    count,
    neighbour_of,
    rebuild,
    state,
    store_with_three_calls,
    without_revisions,
)


@pytest.fixture
async def store() -> Store:
    return await store_with_three_calls()


async def test_some_ledger_partitions_are_rebuilt_alone(store: Store) -> None:
    """Neither the sums nor the view rows of others are looked at."""
    for row_key, at in ((VIEW_ROW, ALICE), (BOBS_ROW, BOB)):
        store.tamper("UsageByDay", "2026-11-23", row_key, Calls=9)
        store.tamper(LEDGER, at, f"s|2026-11|{row_key}", Calls=7)
        store.put("UsageByDay", "2026-11-23", row_key.replace("app", "x"), Calls=1)
    before = state(store)
    found = await rebuild(store, partitions=[BOB], repairs_ledger=True)

    assert found.summary.subjects == 1
    assert {d.subject for d in found.differences} == {"b|ö"}
    assert Counter(found.kinds) == dict.fromkeys(
        (Kind.WRONG_SUM, Kind.BEHIND, Kind.DIFFERENT, Kind.SURPLUS), 1
    )
    after = state(store)
    alices = [(name, at) for name in before for at in before[name] if "alice" in at[1]]
    assert all(before[name][at] == after[name].get(at) for name, at in alices)


async def test_the_parts_of_a_month_are_the_month(store: Store) -> None:
    """Rebuilt in any ranges, nothing is left out and nothing is counted twice."""
    await count(store, *(usage_event(n, subject=f"s{n}") for n in range(10, 60)))
    whole = await rebuild(store)
    damage(store)
    parts = [LEDGER_PARTITIONS[:1], LEDGER_PARTITIONS[1:20], LEDGER_PARTITIONS[20:]]
    found = [await rebuild(store, partitions=part) for part in parts]

    assert sum(each.summary.calls for each in found) == whole.summary.calls == 53
    assert sum(each.summary.sums for each in found) == whole.summary.sums
    assert sum(len(each.differences) for each in found) == 107
    assert (await rebuild(store)).differences == []


def damage(store: Store) -> None:
    """Lose the day, change the month, and invent three rows of no ledger partition in particular."""
    del store.tables["UsageByDay"]
    for _, key in list(store.tables["UsageByMonth"]):
        store.tamper("UsageByMonth", "2026-11", key, TotalTokens=1)
    hashed = f"x=~{'0' * 64}|{NAMES}"
    for key in (hashed, "no key of ours", "=FF|x"):
        store.put("UsageByHour", "2026-11-23T07", key, Calls=1, Subject=7)


@pytest.mark.parametrize("page_rows", [1, 7, 1000])
@pytest.mark.parametrize("most_kept", [0, 20, 20_000])
async def test_a_large_month_is_read_in_slices_that_leave_nothing_out(
    store: Store, most_kept: int, page_rows: int
) -> None:
    """Nor is a row of a window, a shard or a partition that should not be there read twice."""
    store.page_rows = page_rows
    days = (usage_event(n, time=NOW.replace(day=n)) for n in range(1, 31) if n != 23)
    await aggregator_on(store, NOW + timedelta(days=9)).count(list(days))
    partitions = ["2026-11", "2026-11-01", "2026-11-24", "2026-11-24~03", "2026-11-31", "2026-11~x"]
    for table in ("UsageByHour", "UsageByDay", "UsageByMonth"):
        for partition in partitions:
            store.put(table, partition, f"mallory|{NAMES}", Calls=1)
    store.remove("UsageByDay", "2026-11-30", VIEW_ROW)
    found = await rebuild(store, most_kept=most_kept)

    assert sorted(found.kinds) == [Kind.MISSING] + [Kind.SURPLUS] * 18
    assert (await rebuild(store, most_kept=most_kept)).differences == []


@pytest.fixture
async def split() -> Store:
    """Fifty subjects in an hour and a day that are split into shards."""
    store = Store()
    store.put("ViewShards", "hour", "2026-11-23T07", Count=4)
    store.put("ViewShards", "day", "2026-11-23", Count=64)
    await count(store, *(usage_event(n, subject=f"s{n}") for n in range(50)))
    return store


async def test_the_views_of_a_split_window_are_compared_shard_by_shard(split: Store) -> None:
    """Each sum is shown in the shard of its ledger partition, and missing shards are made again."""
    before = state(split)
    assert (await rebuild(split)).differences == []
    for place in [place for place in split.tables["UsageByHour"] if place[0].endswith("~02")]:
        split.remove("UsageByHour", *place)
    del split.tables["UsageByDay"]
    found = await rebuild(split)

    assert set(found.kinds) == {Kind.MISSING}
    assert without_revisions(state(split)) == without_revisions(before)


async def test_a_row_in_another_shard_than_its_own_is_removed(split: Store) -> None:
    """A report would count it twice."""
    before = state(split)
    (partition, key), row = next(iter(split.tables["UsageByHour"].items()))
    others = {"2026-11-23T07", *(f"2026-11-23T07~{shard:02}" for shard in range(4))} - {partition}
    for other in others:
        split.put("UsageByHour", other, key, **row.columns)
    found = await rebuild(split)

    assert {(d.kind, d.window) for d in found.differences} == {(Kind.SURPLUS, o) for o in others}
    assert state(split) == before


LONG = "ß" * 200


async def test_a_long_subject_is_rebuilt_though_its_keys_hold_a_hash(store: Store) -> None:
    """Whatever its view row says: it has the key of the sum."""
    await count(store, usage_event(9, subject=LONG))
    before = state(store)
    key = next(key for key, row in store.rows("UsageByDay").items() if row["Subject"] == LONG)
    store.tamper("UsageByDay", "2026-11-23", key, Subject="ss", Calls=9)
    store.remove("UsageByMonth", "2026-11", key)
    found = await rebuild(store)

    assert set(found.kinds) == {Kind.DIFFERENT, Kind.MISSING}
    assert without_revisions(state(store)) == without_revisions(before)


@pytest.mark.parametrize("subject", ["alice", "b|ö", LONG])
async def test_a_subject_is_rebuilt_alone(store: Store, subject: str) -> None:
    """Its markers, its sums and its view rows; those of its neighbours stay as they are."""
    neighbour = neighbour_of(subject)
    await count(
        store, usage_event(4, subject=LONG), usage_event(5, subject=neighbour), usage_event(6)
    )
    sound = state(store)
    for table in ("UsageByHour", "UsageByDay", "UsageByMonth"):
        for place, row in list(store.tables[table].items()):
            store.tamper(table, *place, Calls=9)
            store.put(table, place[0], f"{place[1]}x", **row.columns)
    for at, key in [place for place in store.tables[LEDGER] if place[1].startswith("s|2026-11|")]:
        store.tamper(LEDGER, at, key.replace("2026-11|", "2026-11-23|", 1), TotalTokens=7)
    damaged = state(store)
    found = await rebuild(store, subject=subject, repairs_ledger=True)

    assert {d.subject for d in found.differences} == {subject if subject != LONG else escape(LONG)}
    kinds = {Kind.DIFFERENT: 2, Kind.BEHIND: 1, Kind.SURPLUS: 3, Kind.WRONG_SUM: 1}
    assert Counter(found.kinds) == kinds
    assert all(d.is_repaired for d in found.differences)
    assert found.summary.subjects == 1
    own = {name: rows_of(rows, subject) for name, rows in sound.items()}
    after = {name: rows_of(rows, subject) for name, rows in state(store).items()}
    assert without_revisions(after) == without_revisions(own)
    others = {name: rows_of(rows, neighbour) for name, rows in damaged.items()}
    assert {name: rows_of(rows, neighbour) for name, rows in state(store).items()} == others


def rows_of(rows: dict[tuple[str, str], Row], subject: str) -> dict[tuple[str, str], Row]:
    return {place: row for place, row in rows.items() if escape(subject) in place[1].split("|")}


async def test_a_subject_without_a_call_has_nothing_to_rebuild(store: Store) -> None:
    """The summary says so."""
    found = await rebuild(store, subject="nobody")

    assert found.differences == []
    assert found.summary == Summary()


async def test_a_rebuild_that_was_interrupted_goes_on_where_it_stopped(store: Store) -> None:
    """What is finished with its views is said, so that the rest can be asked for."""
    await count(store, *(usage_event(n, subject=f"s{n}") for n in range(10, 60)))
    damage(store)
    steps: list[Progress] = []

    def show(progress: Progress) -> None:
        steps.append(replace(progress))
        if progress.checked > 40:
            raise StorageUnavailable("no answer")

    rebuilding = replace(rebuilding_of(store), most_kept=5)
    with pytest.raises(StorageUnavailable):
        await rebuilding.run(lambda _: None, show)
    await rebuild(store, partitions=LEDGER_PARTITIONS[steps[-1].finished :])

    assert steps[-1].finished == 32
    assert (await rebuild(store)).differences == []


async def test_progress_counts_every_call(store: Store) -> None:
    """In the end all partitions are checked and finished."""
    steps: list[Progress] = []
    await rebuilding_of(store).run(lambda _: None, steps.append)

    assert (steps[-1].calls, steps[-1].checked, steps[-1].finished) == (3, 64, 64)


def rebuilding_of(store: Store) -> Rebuild:
    return Rebuild(store=store, tables=store, clock=FakeClock(moment=NOW), month=MONTH, prunes=True)


async def test_a_view_row_with_more_tokens_of_a_tool_than_the_ledger_stays(store: Store) -> None:
    """Sums of a tool's model have no calls: their tokens say what may be lost."""
    tool = ToolUsage(deployment="image", model="gpt-image-1", usage=USAGE)
    await count(store, usage_event(4, tool_usage=(tool,)))
    key = next(key for key in store.rows("UsageByMonth") if "|image|" in key)
    store.tamper("UsageByMonth", "2026-11", key, TotalTokens=99)
    kept = await rebuild(store, prunes=False)
    pruned = await rebuild(store, prunes=True)

    assert [(d.kind, d.is_kept) for d in kept.differences] == [(Kind.DIFFERENT, True)]
    assert pruned.summary.is_sound
    assert store.rows("UsageByMonth")[key]["TotalTokens"] == 15
