"""Which hours and which calls of the hour view an entry is shared by."""

from collections.abc import Sequence
from copy import replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pytest

from meter.errors import InvalidInput
from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.capacity.entries import Entry, Idle
from meter.reports.capacity.hours import share_hours
from meter.reports.capacity.sharing import Sharing, Totals
from meter.reports.query import Query
from meter.usage import TokenUsage
from meter.window import Period, Window
from tests.fakes.rows import MemoryRowStore
from tests.support.capacity import amounts, entry, subject_of, tokens
from tests.support.ledger import views_on
from tests.support.reports import query, row

DAYS = [date(2026, 10, 1) + timedelta(days=day) for day in range(92)]


def hour(name: str, subject: str, prompt: int, **names: str) -> SumRow:
    """An hour's calls of a subject on the provisioned backend."""
    all_names: dict[str, Any] = {"backend": "ptu", "tier": "provisioned", **names}
    return row(name, subject, usage=tokens(prompt), **all_names)


async def shared(
    rows: Sequence[SumRow], wanted: Query, *entries: Entry, store: MemoryRowStore | None = None
) -> list[Sharing[str]]:
    """The entries, shared over the query on these stored rows."""
    store = store or MemoryRowStore()
    await views_on(store).write(rows)
    sharings = [
        Sharing(each, prices=dict.fromkeys(DAYS, Fraction(1)), period=Period.MONTH,
                name_of=subject_of)
        for each in entries
    ]  # fmt: skip
    await share_hours(store, wanted, sharings)
    return sharings


def total(sharing: Sharing[str]) -> Totals:
    """The totals over all windows."""
    return sum(sharing.totals.values(), Totals())


async def test_every_hour_of_the_range_counts_used_or_not() -> None:
    """November has 720 hours; two of them were used."""
    rows = [hour("2026-11-01T00", "alice", 1), hour("2026-11-30T23", "bob", 1)]
    (sharing,) = await shared(rows, query(first="2026-11", last="2026-11"), entry())

    assert (total(sharing).hours, total(sharing).hours_with_use) == (720, 2)
    assert amounts(sharing) == {"alice": 100, "bob": 100, "(idle)": 71_800}


async def test_hours_are_those_of_the_range_and_of_the_entry() -> None:
    """Three days of November; usage before and after them is on other units."""
    rows = [hour(f"2026-11-{day}T12", f"on-{day}", 1) for day in ("09", "10", "12", "13")]
    of = entry(first=date(2026, 11, 10), end=date(2026, 11, 13), idle=Idle.BY_USE)
    (sharing,) = await shared(rows, query(first="2026-11", last="2026-11"), of)

    assert total(sharing).hours == 72
    assert amounts(sharing) == {"on-10": 3_600, "on-12": 3_600}


async def test_a_range_may_be_hours_inside_the_entry() -> None:
    """A report of two hours has two hours' cost."""
    rows = [hour(f"2026-11-10T{at}", f"at-{at}", 1) for at in ("06", "07", "08", "09")]
    wanted = query(by="hour", first="2026-11-10T07", last="2026-11-10T08")
    (sharing,) = await shared(rows, wanted, entry())

    assert amounts(sharing) == {"at-07": 100, "at-08": 100}


async def test_only_provisioned_calls_on_the_backend_use_its_units() -> None:
    """Calls that spilled over are standard: they are priced by the token, and share nothing."""
    rows = [
        hour("2026-11-10T07", "alice", 1),
        hour("2026-11-10T07", "spilled", 1, tier="standard"),
        hour("2026-11-10T07", "elsewhere", 1, backend="east"),
        hour("2026-11-10T07", "priority", 1, tier="priority"),
    ]
    wanted = query(by="hour", first="2026-11-10T07", last="2026-11-10T07")
    (sharing,) = await shared(rows, wanted, entry())

    assert amounts(sharing) == {"alice": 100}


async def test_an_entry_may_be_of_a_deployment() -> None:
    """Whichever backends have it, and no other deployment of them."""
    rows = [
        hour("2026-11-10T07", "alice", 3, deployment="chat"),
        hour("2026-11-10T07", "bob", 1, deployment="chat", backend="ptu-2"),
        hour("2026-11-10T07", "carol", 1, deployment="other"),
    ]
    wanted = query(by="hour", first="2026-11-10T07", last="2026-11-10T07")
    (sharing,) = await shared(rows, wanted, entry(backend="", deployment="chat"))

    assert amounts(sharing) == {"alice": 75, "bob": 25}


async def test_adjustments_count() -> None:
    """Charged are counts plus adjustments."""
    stored = hour("2026-11-10T07", "alice", 4)
    adjusted = replace(
        stored, sums=replace(stored.sums, adjustments=1, adjusted=TokenUsage(prompt_tokens=-3))
    )
    wanted = query(by="hour", first="2026-11-10T07", last="2026-11-10T07")
    (sharing,) = await shared([adjusted, hour("2026-11-10T07", "bob", 3)], wanted, entry())

    assert amounts(sharing) == {"alice": 25, "bob": 75}


async def test_entries_of_several_backends_are_shared_apart() -> None:
    """Each has its own subjects, and its own idle hours."""
    rows = [hour("2026-11-10T07", "alice", 1), hour("2026-11-10T08", "bob", 1, backend="ptu-2")]
    wanted = query(by="hour", first="2026-11-10T07", last="2026-11-10T08")
    found = await shared(rows, wanted, entry(), entry(backend="ptu-2", ptus=50))

    assert [amounts(each) for each in found] == [
        {"alice": 100, "(idle)": 100},
        {"bob": 50, "(idle)": 50},
    ]


async def test_a_call_on_the_units_of_two_entries_is_refused() -> None:
    """A backend and a deployment on it: which units were used cannot be told."""
    rows = [hour("2026-11-10T07", "alice", 1, deployment="chat")]
    entries = [entry(place="first"), entry(backend="", deployment="chat", place="second")]

    with pytest.raises(InvalidInput) as caught:
        await shared(rows, query(first="2026-11", last="2026-11"), *entries)
    assert caught.value.problems == (
        "second: calls of deployment chat on backend ptu are on the units of two entries, also those "
        "of first: name the deployments of that backend one by one",
    )


async def test_all_models_without_a_ratio_are_named_at_once() -> None:
    """Over all entries."""
    used = tokens(1, 1)
    rows = [
        row(
            "2026-11-10T07",
            usage=used,
            backend=backend,
            tier="provisioned",
            model=f"model-of-{backend}",
        )
        for backend in ("ptu", "ptu-2")
    ]

    with pytest.raises(InvalidInput) as caught:
        await shared(
            rows,
            query(first="2026-11", last="2026-11"),
            entry(place="first"),
            entry(backend="ptu-2", place="second"),
        )
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "first.ratios",
        "second.ratios",
    ]


async def test_an_hour_in_several_partitions_is_one_hour() -> None:
    """Windows with many rows are split; their shares are of the whole hour."""
    store = MemoryRowStore()
    name = "2026-11-10T07"
    stored = [hour(name, f"subject-{number}", 1) for number in range(4)]
    for shard, each in enumerate(stored):
        new = Row(key=each.key.view_row_key, columns=each.columns())
        await store.write("UsageByHour", f"{name}~{shard:02}", insert=[new])
    wanted = query(by="hour", first=name, last=name)
    (sharing,) = await shared([], wanted, entry(), store=store)

    assert amounts(sharing) == {f"subject-{number}": 25 for number in range(4)}
    assert list(sharing.totals) == [Window("2026-11")]
