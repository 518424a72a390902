"""A subject's own usage: the report's numbers, and no other subject's."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.own_usage.reader import OwnUsageReader
from meter.reports.pricing.book import PriceBook
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import views_on
from tests.support.reports import book, price, query, row

PARTS = ("by_deployment", "by_model")


async def own(
    store: MemoryRowStore, subject: str = "alice", prices: PriceBook | None = None
) -> dict[str, Any]:
    async def found() -> PriceBook | None:
        return prices

    reader = OwnUsageReader(store=store, clock=FakeClock(moment=NOW), book=found)
    return dict(await reader.read(subject))


async def reported(
    store: MemoryRowStore, subject: str, by: str, prices: PriceBook | None = None
) -> dict[str, Any]:
    """The subject's row of the report, without what own usage does not show."""
    window = {"month": "2026-11", "day": "2026-11-23"}[by]
    out = io.StringIO()
    asked = usage_report(store, query(by, window, window), book=prices)
    await write_report(asked, Format.JSON, out)
    (found,) = [each for each in json.loads(out.getvalue())["rows"] if each["subject"] == subject]
    del found[by], found["subject"]
    found.pop("share_percent", None)
    return dict(found)


def whole(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in {*PARTS, "window"}}


def days_of(subject: str, calls: int = 1) -> list[SumRow]:
    """Usage of two days and of their month, on two deployments."""
    adjusted = TokenUsage(prompt_tokens=-3, total_tokens=-3)
    rows = [
        row("2026-11-02", subject, calls=calls, deployment="b", estimated_calls=1),
        row("2026-11-23", subject, calls=2 * calls, deployment="a", model="m", adjusted=adjusted),
    ]
    month = [
        row("2026-11", subject, calls=calls, deployment="b", estimated_calls=1),
        row("2026-11", subject, calls=2 * calls, deployment="a", model="m", adjusted=adjusted),
    ]
    return [*rows, *month]


async def test_the_numbers_are_those_of_the_report() -> None:
    """Under the same names, with what is estimated or missing."""
    store = MemoryRowStore()
    await views_on(store).write([*days_of("alice"), *days_of("bob", calls=100)])
    found = await own(store)

    assert (found["subject"], found["name"]) == ("alice", None)
    assert found["as_of"] == "2026-11-23T07:30:00.000000Z"
    assert (found["month"]["window"], found["day"]["window"]) == ("2026-11", "2026-11-23")
    for by in ("month", "day"):
        assert whole(found[by]) == await reported(store, "alice", by)
    assert found["month"]["estimated_calls"] == 1
    assert "cost" not in found["month"]


async def test_money_is_that_of_the_report() -> None:
    """Prices are those of each day, so the month is read by days; only what is known is there."""
    store = MemoryRowStore()
    await views_on(store).write(days_of("alice"))
    prices = book(price("1", end="2026-11-15"), price("2", start="2026-11-15"))
    found = await own(store, prices=prices)

    for by in ("month", "day"):
        assert whole(found[by]) == await reported(store, "alice", by, prices)
    assert (found["month"]["cost"], found["day"]["cost"]) == ("4.994", "3.994")
    assert (found["month"]["currency"], found["month"]["unpriced"]) == ("USD", [])


async def test_deployments_and_models_are_shown_apart() -> None:
    """In order of their names; they add up to the whole."""
    store = MemoryRowStore()
    await views_on(store).write(days_of("alice"))
    found = (await own(store, prices=book(price("1"))))["month"]

    assert [(each["deployment"], each["calls"]) for each in found["by_deployment"]] == [
        ("a", 2),
        ("b", 1),
    ]
    assert [each["cost"] for each in found["by_model"]] == ["1", "1.997"]
    assert found["cost"] == "2.997"
    assert set(found["by_model"][0]) == {
        "model",
        "calls",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "cost",
    }


async def test_without_calls_everything_is_0() -> None:
    """And what is not known is null."""
    found = await own(MemoryRowStore(), prices=book(price("1")))

    assert found["month"]["calls"] == 0
    assert found["month"]["cost"] is None
    assert found["day"]["by_model"] == []


async def test_usage_without_a_price_is_said_and_never_0() -> None:
    """As in reports."""
    store = MemoryRowStore()
    await views_on(store).write(days_of("alice"))
    found = (await own(store, prices=book(price("1", kind="output"))))["day"]

    assert (found["cost"], found["unpriced"]) == (None, ["input"])


async def test_prices_that_tie_cost_the_money_and_not_the_counts() -> None:
    """No caller can repair the book."""
    store = MemoryRowStore()
    await views_on(store).write(days_of("alice"))
    found = await own(store, prices=book(price("1"), price("2")))

    assert found["month"]["calls"] == 3
    assert "cost" not in found["month"]


async def test_the_name_is_the_operators_else_the_tokens() -> None:
    """As reports have it."""
    store = MemoryRowStore()
    rows = [
        Row(key="alice", columns={"DisplayName": "Alice", "Name": "a@x"}),
        Row(key="bob", columns={"Name": "b@x"}),
    ]
    await store.write("Subjects", "subject", insert=rows)

    assert [(await own(store, name))["name"] for name in ("alice", "bob", "carol")] == [
        "Alice",
        "b@x",
        None,
    ]


@pytest.mark.parametrize("count", [1, 2, 64])
async def test_one_shard_is_read_where_a_window_is_split(count: int) -> None:
    """The one that holds the subject."""
    store = MemoryRowStore()
    if count > 1:
        for period, first in (("day", "2026-11-02"), ("month", "2026-11")):
            split = Row(key=first, columns={"Count": count})
            await store.write("ViewShards", period, insert=[split])
    await views_on(store).write([*days_of("alice"), *days_of("bob")])
    scans = store.calls["scan"]
    found = await own(store)

    assert found["month"]["calls"] == 3
    assert store.calls["scan"] - scans == 3  # the splits, the month, the day


SUBJECTS = ["a", "ab", "a|b", "a=7Cb", "A", "a ", "a~", "a=", "é", "a|", "|a", 100 * "x", 101 * "x"]
ANY = st.sampled_from(SUBJECTS) | st.text(
    st.sampled_from("aA|~=-%/é\u202e\n "), min_size=1, max_size=255
)


@given(st.lists(ANY, min_size=2, max_size=8, unique=True), st.sampled_from([1, 7]))
@example(SUBJECTS, 1)
@example(["x" * 200, "x" * 201], 1)
@settings(max_examples=60, deadline=None)
async def test_no_other_subjects_rows_are_ever_read(subjects: list[str], count: int) -> None:
    """However alike the names are, escaped or hashed, in one partition or in shards."""
    store = MemoryRowStore()
    if count > 1:
        for period, first in (("day", "2026-11-02"), ("month", "2026-11")):
            split = Row(key=first, columns={"Count": count})
            await store.write("ViewShards", period, insert=[split])
    rows = [
        each
        for number, subject in enumerate(subjects)
        for each in days_of(subject, calls=10**number)
    ]
    await views_on(store).write(rows)

    for number, subject in enumerate(subjects):
        found = await own(store, subject)
        assert (found["month"]["calls"], found["day"]["calls"]) == (
            3 * 10**number,
            2 * 10**number,
        )
