"""The check of a book as a table and as JSON."""

import io
import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from meter.reports.pricing.check import BookCheck, Extent, Finding, Standing
from meter.reports.pricing.cost import Unpriced
from meter.reports.pricing.kinds import Kind
from meter.reports.write.book_check import verdict, write_book_check
from meter.reports.write.report import Format
from meter.window import Window
from tests.support.prices import price

FIRST = date(2026, 11, 1)
USED = Unpriced("gpt-4o-2024-11-20", Kind.INPUT, "standard", "short", "regional", "swedencentral")
FOUND = {
    Finding(
        Standing.UNPRICED, USED._replace(kind=Kind.OUTPUT, region="", deployment_type="")
    ): Extent(1_234_567, {FIRST, FIRST + timedelta(days=4)}),
    Finding(Standing.AMBIGUOUS, USED, ("b.csv, line 2", "b.csv, line 3")): Extent(90, {FIRST}),
    Finding(
        Standing.CHARGED_AS_PARENT, USED._replace(kind=Kind.CACHE_WRITE), (Kind.INPUT,)
    ): Extent(30, {FIRST}),
    Finding(Standing.BY_CAPACITY, USED._replace(tier="provisioned")): Extent(7, {FIRST}),
}
CHECK = BookCheck(
    month=Window("2026-11"),
    currency="USD",
    has_usage=True,
    found=FOUND,
    unused=(price(place="b.csv, line 9", tier="priority", meter_id="7f-1"),),
    used=3,
    others=2,
    ties=(("b.csv, line 5", "b.csv, line 6"),),
)


def text_of(check: BookCheck, form: Format = Format.TABLE) -> str:
    out = io.StringIO()
    write_book_check(check, form, out)
    return out.getvalue()


def test_the_table_says_what_was_found_and_the_verdict_last() -> None:
    """Each kind of finding under its title."""
    assert text_of(CHECK).splitlines() == [
        "2026-11-01 to 2026-11-30 UTC, prices in USD",
        "",
        "usage without a price:",
        " quantity  kind    model              tier      context  deployment type  region   days",
        "1,234,567  output  gpt-4o-2024-11-20  standard  short    unknown          unknown  "
        "2, 2026-11-01 to 2026-11-05",
        "",
        "usage with several prices that are equally good:",
        "quantity  kind   model              tier      context  deployment type  region         "
        "days        equally good rows",
        "      90  input  gpt-4o-2024-11-20  standard  short    regional         swedencentral  "
        "2026-11-01  b.csv, line 2, b.csv, line 3",
        "",
        "usage charged at another kind's price, having none of its own:",
        "quantity  kind         model              tier      context  deployment type  "
        "region         days        charged as",
        "      30  cache_write  gpt-4o-2024-11-20  standard  short    regional         "
        "swedencentral  2026-11-01  input",
        "",
        "usage of provisioned capacity, paid by the hour:",
        "quantity  kind   model              tier         context  deployment type  region         "
        "days",
        "       7  input  gpt-4o-2024-11-20  provisioned  short    regional         swedencentral  "
        "2026-11-01",
        "",
        "rows that would be equally good for other usage:",
        "b.csv, line 5 and b.csv, line 6",
        "",
        "rows that no usage is charged at:",
        "row            kind   model   tier      context  deployment type  region",
        "b.csv, line 9  input  gpt-4o  priority  *        *                *",
        "",
        "note: region and deployment type are unknown where METER_BACKENDS does not have them, and then "
        "only rows with * match",
        "rows of the book: 3 used, 1 unused, 2 of other months or of capacity",
        "NOT PRICED: 1 without a price, 1 ambiguous",
    ]


def test_the_json_has_everything() -> None:
    """Quantities and days of usage, rows of the book, and the verdict."""
    usage: dict[str, Any] = {
        "model": "gpt-4o-2024-11-20",
        "kind": "input",
        "tier": "standard",
        "context": "short",
        "deployment_type": "regional",
        "region": "swedencentral",
        "days": ["2026-11-01"],
    }

    assert json.loads(text_of(CHECK, Format.JSON)) == {
        "month": "2026-11",
        "currency": "USD",
        "is_priced": False,
        "verdict": "NOT PRICED: 1 without a price, 1 ambiguous",
        "unpriced": [
            usage
            | {
                "kind": "output",
                "deployment_type": "",
                "region": "",
                "quantity": 1_234_567,
                "days": ["2026-11-01", "2026-11-05"],
            }
        ],
        "ambiguous": [usage | {"quantity": 90, "rows": ["b.csv, line 2", "b.csv, line 3"]}],
        "charged_as_parent": [
            usage | {"kind": "cache_write", "quantity": 30, "charged_as": "input"}
        ],
        "by_capacity": [usage | {"tier": "provisioned", "quantity": 7}],
        "ties": [["b.csv, line 5", "b.csv, line 6"]],
        "unused": [
            {
                "row": "b.csv, line 9",
                "model": "gpt-4o",
                "kind": "input",
                "tier": "priority",
                "context": "*",
                "deployment_type": "*",
                "region": "*",
                "meter_id": "7f-1",
                "meter_name": "",
            }
        ],
        "rows": {"used": 3, "unused": 1, "others": 2},
    }


def test_long_lists_are_cut_in_the_table_alone() -> None:
    """A whole list of Azure's prices has thousands of rows that nobody uses."""
    unused = tuple(price(place=f"b.csv, line {number}") for number in range(2, 2_003))
    check = replace(CHECK, found={}, ties=(), unused=unused)

    lines = text_of(check).splitlines()
    assert sum(line.startswith("b.csv, line ") for line in lines) == 20
    assert "... and 1,981 more: the JSON lists all" in lines
    assert len(json.loads(text_of(check, Format.JSON))["unused"]) == 2_001


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"found": {}}, "PRICED: all usage has one price"),
        ({"found": dict(list(FOUND.items())[2:])}, "PRICED: all usage has one price"),
        ({"found": {}, "has_usage": False}, "NO USAGE in 2026-11"),
        ({"found": dict(list(FOUND.items())[1:2])}, "NOT PRICED: 0 without a price, 1 ambiguous"),
    ],
)
def test_the_verdict_is_one_line(changes: dict[str, Any], said: str) -> None:
    """Usage of capacity, and shares charged as their parents, have a price."""
    check = replace(CHECK, **changes)

    assert verdict(check) == said
    assert text_of(check).splitlines()[-1] == said


def test_other_formats_are_refused() -> None:
    """There is no table of rows to write as CSV."""
    with pytest.raises(ValueError, match="written as table or json, not as csv"):
        text_of(CHECK, Format.CSV)
