"""Rows that are equally good for usage that may come."""

from datetime import date
from typing import Any

import pytest

from meter.reports.pricing.book import Origin
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.ties import ties_between
from tests.support.prices import book, price

type Changes = dict[str, Any]

FIRST, MIDDLE, END = date(2026, 11, 1), date(2026, 11, 5), date(2026, 12, 1)


def ties_of(*rows: Changes) -> list[tuple[str, ...]]:
    """The ties of these rows, which are named 0, 1, ..."""
    prices = [price(place=str(number), **changes) for number, changes in enumerate(rows)]
    return ties_between(book(*prices), FIRST, END)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"region": "eastus"}, {"tier": "standard"}),
        ({"region": "eastus"}, {"tier": "priority"}),
        ({"context": "long"}, {"deployment_type": "global"}),
        ({"region": "eastus", "tier": "flex"}, {"region": "eastus", "context": "long"}),
        ({"region": "eastus", "tier": "flex"}, {"deployment_type": "global", "context": "long"}),
        (
            {"model": "deployment:chat", "region": "x1"},
            {"model": "deployment:chat", "tier": "flex"},
        ),
        ({"model": "*", "region": "eastus"}, {"model": "*", "context": "short"}),
        ({"model": "o3-2025-04-16", "region": "x1"}, {"model": "o3-2025-04-16", "tier": "flex"}),
        ({"region": "x1", "tier": "provisioned"}, {"context": "long", "tier": "provisioned"}),
        ({"region": "x1", "effective_from": date(2026, 11, 30)}, {"tier": "flex"}),
        (
            {"region": "x1", "effective_to": date(2026, 11, 2)},
            {"tier": "flex", "effective_from": date(2026, 11, 1)},
        ),
    ],
    ids=str,
)
def test_rows_with_different_columns_tie(one: Changes, other: Changes) -> None:
    """Where both match, neither is more specific."""
    assert ties_of(one, other) == [("0", "1")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"region": "eastus"}, {"region": "westus"}),
        ({"region": "eastus"}, {"tier": "standard", "context": "long"}),
        ({"region": "eastus"}, {"tier": "standard", "kind": Kind.OUTPUT}),
        ({"region": "eastus"}, {"tier": "standard", "file": 1}),
        ({"region": "eastus"}, {"tier": "standard", "origin": Origin.CONTRACTED}),
        ({"region": "eastus"}, {"tier": "standard", "model": "gpt-4o-2024-11-20"}),
        ({"region": "eastus"}, {"tier": "provisioned"}),
        ({"region": "x1", "tier": "flex"}, {"region": "x2", "context": "long"}),
        ({"region": "x1", "effective_to": MIDDLE}, {"tier": "flex", "effective_from": MIDDLE}),
        ({"region": "x1", "effective_from": END}, {"tier": "flex"}),
        ({"region": "x1", "effective_to": FIRST}, {"tier": "flex"}),
    ],
    ids=str,
)
def test_rows_that_no_usage_can_be_charged_at_alike_do_not_tie(
    one: Changes, other: Changes
) -> None:
    """One is better, or they exclude one another, or are of other days."""
    assert ties_of(one, other) == []


def test_a_better_row_settles_a_tie() -> None:
    """Of the usage that both match, it is the price."""
    assert ties_of({"region": "x1"}, {"tier": "flex"}, {"region": "x1", "tier": "flex"}) == []
    assert ties_of({"region": "x1"}, {"tier": "flex"}, {"region": "x1", "tier": "batch"}) == [
        ("0", "1")
    ]


def test_three_rows_are_one_tie_where_all_match() -> None:
    """Pairs of them tie for usage that the third does not match."""
    assert ties_of({"region": "x1"}, {"tier": "flex"}, {"context": "long"}) == [
        ("0", "1"),
        ("0", "2"),
        ("1", "2"),
    ]
