"""Whom usage is charged to: names, teams and cost centres that operators keep beside subjects."""

import pytest

from meter.ports import Row
from meter.reports.rows import total_of
from tests.fakes.rows import MemoryRowStore
from tests.support.reports import query, row, usage_of


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


async def _enter(store: MemoryRowStore, key: str, **columns: object) -> None:
    await store.write("Subjects", "subject", insert=[Row(key=key, columns=columns)])


async def test_usage_is_grouped_by_what_operators_filled_in(store: MemoryRowStore) -> None:
    """A display name goes before the token's name; several subjects add up to one team."""
    await _enter(store, "alice", Name="a@x", DisplayName="Alice", Team="search", CostCentre="42")
    await _enter(store, "bob", Name="Bob", Team="search", CostCentre="42")
    rows = [row("2026-11", "alice"), row("2026-11", "bob")]
    named = await usage_of(store, query(groups="name,subject"), *rows)
    teams = await usage_of(store, query(groups="team,cost_centre"))

    assert [each.names for each in named] == [("Alice", "alice"), ("Bob", "bob")]
    assert [(each.names, each.sums.calls) for each in teams] == [(("search", "42"), 2)]


async def test_what_is_not_known_has_a_row_of_its_own(store: MemoryRowStore) -> None:
    """No usage is left out: neither of subjects without a row, nor of those without an entry."""
    await _enter(store, "alice", Team="  ", CostCentre="")
    rows = [row("2026-11", "alice"), row("2026-11", "bob"), row("2026-11", "carol")]
    found = await usage_of(store, query(groups="name,team,cost_centre"), *rows)

    assert [each.names for each in found] == [("(no name)", "(no team)", "(no cost centre)")]
    assert total_of(found).sums.calls == 3


@pytest.mark.parametrize("subject", ["zoë|x", "CN=build/agent #7", "x" * 200, "a", "c", "s"])
async def test_any_subject_finds_its_owner(store: MemoryRowStore, subject: str) -> None:
    """By its key, which operators copy: also where that holds only a hash of the subject.

    And where it looks like the beginning of a ledger's key.
    """
    await usage_of(store, query(), row("2026-11", subject))
    (key,) = store.rows("UsageByMonth")
    await _enter(store, key.partition("|")[0], Team="search")
    found = await usage_of(store, query(groups="team"))

    assert [each.names for each in found] == [("search",)]


async def test_a_number_is_a_cost_centre(store: MemoryRowStore) -> None:
    """Table editors store 4711 as a number."""
    await _enter(store, "alice", CostCentre=4711)
    found = await usage_of(store, query(groups="cost_centre"), row("2026-11", "alice"))

    assert [each.names for each in found] == [("4711",)]
