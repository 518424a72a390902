"""Checking a book against a month: what has no price, or several, and what nobody uses."""

from datetime import date
from decimal import Decimal

import pytest

from meter.errors import LedgerDamaged
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.pricing.book import Price
from meter.reports.pricing.check import BookCheck, Extent, Finding, Standing, check_book
from meter.reports.pricing.cost import Unpriced
from meter.reports.pricing.kinds import Kind
from meter.usage import TokenUsage
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import dimensions, views_on
from tests.support.prices import book, price

NOVEMBER = Window("2026-11")
PROMPT = TokenUsage(prompt_tokens=1_000, total_tokens=1_000)


def day_row(
    day: str, usage: TokenUsage = PROMPT, *, adjusted: TokenUsage | None = None, **names: str
) -> SumRow:
    """A day's sum in Sweden of a regional deployment."""
    sums = Sums(
        calls=1,
        tokens=usage,
        first_call_at=NOW,
        last_call_at=NOW,
        place=("swedencentral", "regional"),
        adjustments=int(adjusted is not None),
        adjusted=adjusted or TokenUsage(),
    )
    return SumRow(key=SumKey(Window(day), dimensions(**names)), sums=sums, revision=1)


async def checked(*rows: SumRow, prices: tuple[Price, ...] = (price(),)) -> BookCheck:
    store = MemoryRowStore()
    await views_on(store).write(rows)
    return await check_book(store, NOVEMBER, book(*prices))


def of(kind: Kind = Kind.INPUT, **changes: str) -> Unpriced:
    return Unpriced(
        **{
            "model": "gpt-4o-2024-11-20",
            "tier": "standard",
            "context": "short",
            "deployment_type": "regional",
            "region": "swedencentral",
        }
        | changes,
        kind=kind,
    )


def days(*numbers: int) -> set[date]:
    return {date(2026, 11, number) for number in numbers}


async def test_a_book_with_a_price_for_everything_finds_nothing() -> None:
    """Its row is used."""
    found = await checked(day_row("2026-11-01"), day_row("2026-11-30"))

    assert (found.has_usage, found.is_priced) == (True, True)
    assert (dict(found.found), found.unused, found.used, found.others) == ({}, (), 1, 0)


async def test_usage_without_a_price_is_listed_with_its_quantity_and_days() -> None:
    """Added up over subjects, by all that decides a price; the largest first."""
    usage = TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15, web_search_calls=2)
    found = await checked(
        day_row("2026-11-02", usage, subject="alice"),
        day_row("2026-11-02", usage, subject="bob"),
        day_row("2026-11-05", usage, subject="bob"),
        day_row("2026-11-05", model="o3"),
    )

    assert list(found.found.items()) == [
        (Finding(Standing.UNPRICED, of(model="o3")), Extent(1_000, days(5))),
        (Finding(Standing.UNPRICED, of(Kind.OUTPUT)), Extent(15, days(2, 5))),
        (Finding(Standing.UNPRICED, of(Kind.WEB_SEARCH)), Extent(6, days(2, 5))),
    ]
    assert not found.is_priced


async def test_a_price_counts_on_its_own_days() -> None:
    """Usage before its first day has no price."""
    row = price(effective_from=date(2026, 11, 3))
    found = await checked(day_row("2026-11-02"), day_row("2026-11-03"), prices=(row,))

    assert list(found.found.values()) == [Extent(1_000, days(2))]
    assert found.used == 1


async def test_ambiguous_rows_are_named_and_are_not_unused() -> None:
    """With the usage for which they tie; the other kinds are checked all the same."""
    rows = (
        price(region="swedencentral", place="b.csv, line 2"),
        price(tier="standard", place="b.csv, line 3"),
        price(context="long", kind=Kind.OUTPUT, place="b.csv, line 4"),
    )
    usage = TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
    found = await checked(day_row("2026-11-02", usage), prices=rows)

    tie = Finding(Standing.AMBIGUOUS, of(), ("b.csv, line 2", "b.csv, line 3"))
    assert dict(found.found) == {
        tie: Extent(10, days(2)),
        Finding(Standing.UNPRICED, of(Kind.OUTPUT)): Extent(5, days(2)),
    }
    assert found.unused == rows[2:]
    assert not found.is_priced


async def test_shares_that_are_charged_as_their_parents_are_shown() -> None:
    """They have a price, but perhaps not the one that Azure charges."""
    usage = TokenUsage(prompt_tokens=100, cached_tokens=60, cache_write_tokens=30, total_tokens=100)
    rows = (price(), price(kind=Kind.CACHED_INPUT))
    found = await checked(day_row("2026-11-02", usage), prices=rows)

    assert dict(found.found) == {
        Finding(Standing.CHARGED_AS_PARENT, of(Kind.CACHE_WRITE), (Kind.INPUT,)): Extent(
            30, days(2)
        )
    }
    assert found.is_priced


async def test_tokens_of_capacity_need_no_price_by_the_token() -> None:
    """They are paid by the hour; calls of tools are not."""
    usage = TokenUsage(prompt_tokens=10, total_tokens=10, web_search_calls=1)
    found = await checked(day_row("2026-11-02", usage, tier="provisioned"))

    assert dict(found.found) == {
        Finding(Standing.BY_CAPACITY, of(tier="provisioned")): Extent(10, days(2)),
        Finding(Standing.UNPRICED, of(Kind.WEB_SEARCH, tier="provisioned")): Extent(1, days(2)),
    }
    assert not found.is_priced


async def test_rows_that_no_usage_is_charged_at_are_unused() -> None:
    """Of those valid in the month: history and the future, and hours of capacity, are no surprise."""
    beaten = price(model="*")
    others = (
        price(effective_to=date(2026, 11, 1)),
        price(effective_from=date(2026, 12, 1)),
        price(kind=Kind.PTU_HOUR),
    )
    last_day = price(region="eastus", effective_from=date(2026, 11, 30))
    found = await checked(day_row("2026-11-02"), prices=(price(), beaten, last_day, *others))

    assert found.unused == (beaten, last_day)
    assert (found.used, found.others) == (1, 3)
    assert found.is_priced


async def test_adjustments_are_usage() -> None:
    """Counts and adjustments are charged; what was taken back altogether needs no price."""
    back = TokenUsage(prompt_tokens=-1_000, total_tokens=-1_000)
    part = TokenUsage(prompt_tokens=-400, total_tokens=-400)
    found = await checked(
        day_row("2026-11-02", model="o3", adjusted=back),
        day_row("2026-11-03", model="o4", adjusted=part),
    )

    assert dict(found.found) == {
        Finding(Standing.UNPRICED, of(model="o4")): Extent(600, days(3)),
    }


async def test_only_the_days_of_the_month_are_read() -> None:
    """Shards of its days included, those of its neighbours not."""
    store = MemoryRowStore()
    views = [day_row(day, model="o3") for day in ("2026-10-31", "2026-11-30", "2026-12-01")]
    await views_on(store).write(views)
    row = day_row("2026-11-30", model="o3", subject="bob")
    shard = [Row(key=row.key.view_row_key, columns=row.columns())]
    await store.write("UsageByDay", "2026-11-30~07", insert=shard)
    watched: list[tuple[int, Window]] = []
    found = await check_book(
        store, NOVEMBER, book(price()), lambda rows, day: watched.append((rows, day))
    )

    assert list(found.found.values()) == [Extent(2_000, days(30))]
    assert watched == []


async def test_a_month_without_usage_needs_no_price() -> None:
    """All rows of the book are unused."""
    found = await checked()

    assert (found.has_usage, found.is_priced, len(found.unused)) == (False, True, 1)


async def test_a_long_reading_is_watched() -> None:
    """Every thousandth row, with its day."""
    watched: list[tuple[int, Window]] = []
    store = MemoryRowStore()
    await views_on(store).write(
        day_row("2026-11-02", subject=f"s{number}") for number in range(2_001)
    )
    await check_book(store, NOVEMBER, book(price()), lambda *seen: watched.append(seen))

    assert watched == [(1_000, Window("2026-11-02")), (2_000, Window("2026-11-02"))]


async def test_a_damaged_row_stops_the_check() -> None:
    """It names the cell, as every report does."""
    store = MemoryRowStore()
    await store.write(
        "UsageByDay", "2026-11-02", insert=[Row(key="x", columns={"PromptTokens": "many"})]
    )
    with pytest.raises(LedgerDamaged, match="UsageByDay, partition 2026-11-02, row x"):
        await check_book(store, NOVEMBER, book(price(price=Decimal(1))))


async def test_rows_that_would_tie_for_other_usage_are_named_apart() -> None:
    """Those that the month's usage has met are not named twice; only they leave usage unpriced."""
    rows = (
        price(region="swedencentral", place="b.csv, line 2"),
        price(tier="standard", place="b.csv, line 3"),
        price(kind=Kind.OUTPUT, region="eastus", place="b.csv, line 4"),
        price(kind=Kind.OUTPUT, tier="priority", place="b.csv, line 5"),
    )
    met = await checked(day_row("2026-11-02"), prices=rows)
    unmet = await checked(prices=rows)

    assert met.ties == (("b.csv, line 4", "b.csv, line 5"),)
    assert unmet.ties == (("b.csv, line 2", "b.csv, line 3"), ("b.csv, line 4", "b.csv, line 5"))
    assert unmet.is_priced
