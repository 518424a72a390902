"""Rows with open sums: they read back as they were, and what is no open sum is named."""

from datetime import timedelta

import pytest

from meter.errors import LedgerDamaged
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey, ledger_partition
from meter.ledger.packing.packed import (
    OpenSum,
    Packed,
    nothing_open,
    read_packed,
    sums_in,
    unpacked,
    with_revision,
)
from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.usage import TokenUsage
from meter.window import windows_of
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import dimensions

PARTITION = ledger_partition("alice")
SUMS = Sums(
    calls=3,
    failed_calls=1,
    estimated_calls=2,
    missing_calls=1,
    tokens=TokenUsage(total_tokens=2**63 - 1, seconds=4),
    first_call_at=NOW + timedelta(microseconds=1),
    last_call_at=NOW + timedelta(microseconds=999_999),
    place=("sweden", "data-zone"),
    adjustments=1,
    adjusted=TokenUsage(prompt_tokens=-(2**63), images=7),
)


def packed(sums: Sums = SUMS, revision: int = 7) -> Packed:
    hour, day, month = (
        SumRow(key=SumKey(window, dimensions()), sums=sums, revision=revision)
        for window in windows_of(NOW)
    )
    return Packed(month, day, hour)


def stored(value: Packed, **columns: object) -> Row:
    row = value.new_row()
    return Row(key=row.key, columns={**row.columns, **columns}, etag="e")


@pytest.mark.parametrize("sums", [SUMS, Sums(calls=1), Sums(adjustments=1)])
def test_a_months_row_reads_back_as_it_was(sums: Sums) -> None:
    """All of three sums, to the microsecond and the last digit."""
    assert read_packed(PARTITION, stored(packed(sums))) == packed(sums)


def test_open_sums_are_as_if_they_had_rows_of_their_own() -> None:
    """Readers above see one row for each sum, with the columns that it will have when it is closed."""
    value = packed()
    rows, damages, _ = unpacked(PARTITION, stored(value))

    assert damages == []
    assert [(row.key, row.columns) for row in rows] == [
        (each.key.row_key, each.ledger_columns()) for each in value.sums()
    ]
    assert sums_in(PARTITION, stored(value)) == (list(value.sums()), [])
    assert [row.etag for row in rows] == ["e"] * 3


def test_what_says_only_that_nothing_is_open_is_no_sum() -> None:
    """A repair leaves it: the next hour opens above it."""
    value = packed()
    assert value.hour is not None
    closed = Packed(value.row, value.day, nothing_open(value.hour.key))
    found = read_packed(PARTITION, stored(closed))

    assert found == closed
    assert [each.key.window.name for each in found.sums()] == ["2026-11", "2026-11-23"]
    assert len(unpacked(PARTITION, stored(closed)).rows) == 2


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "{}",
        "[]",
        '{"window":"2026-11-23"}',
        '{"window":"2026-12-23T07","revision":1}',
        '{"window":"2026-11-99T07","revision":1}',
        '{"window":"2026-11-23T07","revision":-1}',
        '{"window":"2026-11-23T07","revision":1,"calls":"3"}',
        '{"window":"2026-11-23T07","revision":1,"calls":1.5}',
        '{"window":"2026-11-23T07","revision":1,"tokens":{"unheard_of":1}}',
        '{"window":"2026-11-23T07","revision":1,"tokens":{"seconds":true}}',
        '{"window":"2026-11-23T07","revision":1,"unheard_of":1}',
        '{"window":"2026-11-23T07","revision":1,"first_call_at":"yesterday"}',
    ],
)
def test_a_damaged_text_is_named_and_hides_no_other_sum(text: object) -> None:
    """Table, partition, row and column; the month and its day can be read."""
    row = stored(packed(), OpenHour=text)
    with pytest.raises(LedgerDamaged) as found:
        read_packed(PARTITION, row)

    damage = found.value
    assert (damage.table, damage.partition, damage.row) == ("Ledger202611", PARTITION, row.key)
    assert damage.column == "OpenHour"
    rows, damages, _ = unpacked(PARTITION, row)
    assert [each.key.split("|")[1] for each in rows] == ["2026-11", "2026-11-23"]
    assert [each.column for each in damages] == ["OpenHour"]


def test_a_damaged_month_hides_no_open_sum() -> None:
    """Its own cell is named; day and hour can be shown."""
    sums, damages = sums_in(PARTITION, stored(packed(), Calls="x"))

    assert [each.key.window.name for each in sums] == ["2026-11-23", "2026-11-23T07"]
    assert [each.column for each in damages] == ["Calls"]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_sum_gets_another_revision_where_it_is_stored(place: int) -> None:
    """Merged into the row, it changes nothing else."""
    store, table = MemoryRowStore(), "Ledger202611"
    row = packed().new_row()
    await store.write(table, PARTITION, insert=[row])
    before = (await store.read(table, PARTITION, [row.key]))[row.key]
    total = unpacked(PARTITION, before).rows[place]
    await store.write(table, PARTITION, update=[with_revision(total, 99)])
    after = (await store.read(table, PARTITION, [row.key]))[row.key]

    revisions = [7, 7, 7]
    revisions[place] = 99
    sums, _ = sums_in(PARTITION, after)
    assert [each.revision for each in sums] == revisions
    assert all(each.sums == SUMS for each in sums)


def test_a_row_of_an_hour_has_no_open_sum() -> None:
    """It is closed."""
    hour = packed().hour
    assert hour is not None
    row = Row(key=hour.key.row_key, columns=hour.ledger_columns(), etag="e")

    assert read_packed(PARTITION, row) == Packed(hour)
    assert unpacked(PARTITION, row) == ([row], [], {})
    assert not isinstance(unpacked(PARTITION, row).rows[0], OpenSum)


def test_only_texts_that_change_are_written() -> None:
    """A late event leaves the open hour as it is."""
    before = packed()
    month = SumRow(key=before.row.key, sums=before.row.sums + Sums(calls=1), revision=8)
    row = Packed(month, before.day, before.hour).changed_row(before, "e")

    assert not {"OpenDay", "OpenHour", "Subject", "WindowStart"} & row.columns.keys()
    assert row.etag == "e"
