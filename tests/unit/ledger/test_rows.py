"""Stored sums: a cell that is not as the app writes it is named, never guessed."""

from datetime import datetime
from typing import Any

import pytest

from meter.errors import LedgerDamaged
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey, ledger_partition
from meter.ledger.rows import SumRow, read_sum_row, read_sums, sum_row
from meter.ports import Row
from meter.usage import TokenUsage
from meter.window import Window
from tests.support.ledger import dimensions

KEY = SumKey(
    Window("2026-11-23T07"),
    dimensions(subject="a/b", deployment="gpt-4o", model="gpt-4o-2024-11-20", tier="standard"),
)
BUCKET = ledger_partition("a/b")
ROW_KEY = "s|2026-11-23T07|a=2Fb|app|gpt-4o|gpt-4o-2024-11-20|east|standard|short"


def columns(**changes: object) -> dict[str, Any]:
    return {**SumRow(key=KEY, sums=Sums(calls=1), revision=1).columns(), **changes}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("TotalTokens", "15"),
        ("Calls", 1.0),
        ("FailedCalls", True),
        ("PromptTokens", None),
        ("Adjustments", b"1"),
        ("FirstCallAt", "2026-11-23"),
    ],
)
def test_a_damaged_cell_is_named(column: str, value: object) -> None:
    """Table, partition, row and column, so that an operator can look at it."""
    with pytest.raises(LedgerDamaged) as found:
        sum_row(KEY, columns(**{column: value}))

    damage = found.value
    assert (damage.table, damage.partition, damage.row) == ("Ledger202611", BUCKET, ROW_KEY)
    assert damage.column == column
    assert f"Ledger202611, partition {BUCKET}, row s|2026-11-23T07|" in str(damage)
    assert repr(value) in str(damage)


def test_a_sum_without_its_names_is_damaged() -> None:
    """The sweep reads sums by their rows: names of another type cannot be shown."""
    with pytest.raises(LedgerDamaged) as found:
        read_sum_row(BUCKET, Row(key=ROW_KEY, columns=columns(Model=7)))

    assert found.value.column == "Model"


def test_a_damaged_revision_is_repaired_by_the_next_write() -> None:
    """It is no number that anybody charges; 0 makes the next copy win."""
    assert sum_row(KEY, columns(Revision="9")).revision == 0
    assert sum_row(KEY, columns(Revision=True)).revision == 0


@pytest.mark.parametrize(
    ("sums", "column"),
    [
        (Sums(calls=2**63), "Calls"),
        (Sums(tokens=TokenUsage(total_tokens=2**63)), "TotalTokens"),
        (Sums(adjustments=1, adjusted=TokenUsage(seconds=-(2**63) - 1)), "AdjustedSeconds"),
        (Sums(adjustments=1, adjusted=TokenUsage(images=2**63)), "AdjustedImages"),
    ],
)
def test_a_count_beyond_64_bits_is_named(sums: Sums, column: str) -> None:
    """Table Storage cannot hold it."""
    with pytest.raises(LedgerDamaged, match=f"{column}: .* is beyond"):
        SumRow(key=KEY, sums=sums, revision=1).check_range()


def test_the_largest_counts_are_in_range() -> None:
    """Up to 2^63 - 1, and down to -2^63 for adjustments."""
    tokens, adjusted = TokenUsage(total_tokens=2**63 - 1), TokenUsage(seconds=-(2**63))
    sums = Sums(tokens=tokens, adjustments=1, adjusted=adjusted)
    SumRow(key=KEY, sums=sums, revision=1).check_range()


def test_a_row_read_without_a_place_still_names_the_column() -> None:
    """For readers that have only columns."""
    with pytest.raises(LedgerDamaged, match="column Calls: a whole number is expected"):
        read_sums({"Calls": datetime(2026, 1, 1)})  # noqa: DTZ001  # any wrong type does
