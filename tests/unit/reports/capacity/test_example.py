"""The worked example of docs/chargeback.md: its file is valid, and its amounts are what the code makes."""

from dataclasses import replace
from fractions import Fraction

import pytest

from meter.reports.capacity.entries import Idle
from meter.reports.capacity.read import read_capacity
from meter.reports.capacity.sharing import Tokens
from meter.window import Window
from tests.support.capacity import amounts, by, hours_from, shared

FILE = b"""\
[[capacity]]
backend = "ptu-swedencentral"   # or deployment = "gpt-4o"
ptus = 100
from = 2026-11-01               # inclusive; to: exclusive, or open
price_per_ptu_hour = "1.00"     # or "from price book" (kind ptu_hour)
currency = "USD"
idle = "by-share"               # by-use | by-share | separate
[capacity.ratios]               # of each model served; no default
"gpt-4o" = 4
[capacity.tokens_per_minute]    # per PTU; optional
"gpt-4o" = 2500
[capacity.shares]               # subjects, team:NAME, cost_centre:NAME
"team:research" = 2
"team:sales" = 1
"""
USED = {
    "2026-11-23T09": {
        by("Alice"): Tokens(6_000_000, 500_000, cached=2_000_000),
        by("Bob"): Tokens(1_500_000),
    }
}


@pytest.mark.parametrize(
    ("idle", "found"),
    [
        (Idle.BY_USE, {"Alice": 160, "Bob": 40}),
        (Idle.SEPARATE, {"Alice": 40, "Bob": 10, "(idle)": 150}),
        (Idle.BY_SHARE, {"Alice": 40, "Bob": 10, "team:research": 100, "team:sales": 50}),
    ],
)
def test_two_hours_cost_200(idle: Idle, found: dict[str, int]) -> None:
    """One of them half used, one not at all, under each policy."""
    (entry,) = read_capacity(FILE, "capacity.toml").entries
    sharing = shared(replace(entry, idle=idle), USED, hours_from("2026-11-23T09", 2))

    assert amounts(sharing) == found
    assert sharing.totals[Window("2026-11")].utilisation == Fraction(1, 4)
