"""An export is brought up to date: what is due, what changed, and what a dead run left."""

import hashlib
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from meter.errors import ExportHeld, ExportRefused, ExportUnavailable, StorageUnavailable
from meter.reports.export.layout import MANIFEST, Encoding
from meter.reports.export.manifest import SourceFile
from meter.reports.export.writers import Writers, write_csv_gz
from meter.reports.rows import UsageRow
from meter.reports.usage import Report
from meter.reports.write.report import Format
from tests.fakes.export import Killed, MemoryTarget
from tests.fakes.rows import Fault
from tests.support.closing import close, count, october, october_call
from tests.support.exports import (
    NIGHT,
    Usage,
    data_paths,
    export_of,
    manifest_in,
    rows_in,
)
from tests.support.reports import book, price, query, text_of

DAY = timedelta(days=1)
THE_23RD = "v1/usage/date=2026-11-23/usage.csv.gz"
NOVEMBER = "v1/usage-by-month/period=2026-11/usage.csv.gz"


async def november() -> Usage:
    """Calls of two subjects on three days of November."""
    usage = Usage()
    await usage.add("2026-11-20", "alice", 2)
    await usage.add("2026-11-22", "bob", 3)
    await usage.add("2026-11-23", "alice", 4)
    return usage


def check_listed(target: MemoryTarget) -> None:
    """The manifest's files are there, with its sizes and digests, and no others."""
    files = manifest_in(target.files)["files"]
    assert [file["path"] for file in files] == data_paths(target)
    for file in files:
        data = target.files[file["path"]]
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


async def test_each_finished_day_and_the_month_have_a_file() -> None:
    """Days without calls too: a reader tells an empty day from one that is missing."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)

    assert len(data_paths(target, "usage/")) == 23
    assert data_paths(target, "usage-by-month/") == [NOVEMBER]
    assert [row["calls"] for row in rows_in(target.files[THE_23RD])] == ["4"]
    assert rows_in(target.files["v1/usage/date=2026-11-01/usage.csv.gz"]) == []
    check_listed(target)


async def test_a_row_has_every_dimension_and_whom_it_is_charged_to() -> None:
    """Names, teams and cost centres are in the file, so that nobody has to join them."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    [row] = rows_in(target.files[THE_23RD])

    assert list(row)[:11] == [
        "day",
        "subject",
        "name",
        "team",
        "cost_centre",
        "client_app",
        "deployment",
        "model",
        "backend",
        "tier",
        "context",
    ]
    assert row["team"] == "(no team)"


async def test_the_manifests_totals_are_the_reports() -> None:
    """Of the month, and of all its days together."""
    usage, target = await november(), MemoryTarget()
    prices = book(price("0.01"))
    await export_of(usage.store, target, book=prices)
    report = await text_of(usage.store, Format.JSON, query("month", "2026-11"), prices=prices)
    by_path = {file["path"]: file for file in manifest_in(target.files)["files"]}
    days = [file for path, file in by_path.items() if "date=" in path]

    assert '"cost": "0.09"' in report
    assert by_path[NOVEMBER]["totals"] == {
        "calls": 9,
        "prompt_tokens": 9_000,
        "total_tokens": 9_000,
        "cost": "0.09",
        "net_prompt_tokens": 9_000,
        "net_total_tokens": 9_000,
    } or by_path[NOVEMBER]["totals"] == {
        "calls": 9,
        "prompt_tokens": 9_000,
        "total_tokens": 9_000,
        "cost": "0.09",
    }
    assert sum(day["totals"].get("calls", 0) for day in days) == 9


async def test_money_brings_a_focus_file() -> None:
    """Without prices there is none."""
    usage, without, priced = await november(), MemoryTarget(), MemoryTarget()
    await export_of(usage.store, without)
    await export_of(usage.store, priced, book=book(price("0.01")))
    [path] = data_paths(priced, "focus/")

    assert data_paths(without, "focus/") == []
    assert path == "v1/focus/period=2026-11/focus.csv.gz"
    assert {row["BillingCurrency"] for row in rows_in(priced.files[path])} == {"USD"}
    [entry] = [file for file in manifest_in(priced.files)["files"] if file["path"] == path]
    assert entry["rows"] == len(rows_in(priced.files[path])) == 2


async def test_a_repeat_writes_nothing_but_the_manifest() -> None:
    """The same rows are the same bytes."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    target.log.clear()
    done = await export_of(usage.store, target, now=NIGHT + timedelta(hours=1))

    assert done.written == ()
    assert target.log == [f"put {MANIFEST}"]


async def test_late_calls_rewrite_their_day() -> None:
    """The day and its month keep their paths; the other days are left alone."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    target.log.clear()
    await usage.add("2026-11-20", "carol")
    await export_of(usage.store, target)

    assert target.log == [
        f"put {NOVEMBER}",
        "put v1/usage/date=2026-11-20/usage.csv.gz",
        f"put {MANIFEST}",
        f"put {MANIFEST}",
    ]
    check_listed(target)


async def test_late_calls_of_a_settled_month_are_seen() -> None:
    """Its days are read only if its sums have changed; then they are written."""
    usage, target = await november(), MemoryTarget()
    later = datetime.fromisoformat("2027-01-20T02:15:00Z")
    await export_of(usage.store, target, now=later)
    await usage.add("2026-11-20", "carol")
    target.log.clear()
    await export_of(usage.store, target, now=later + DAY)

    assert target.log[:2] == [f"put {NOVEMBER}", "put v1/usage/date=2026-11-20/usage.csv.gz"]
    check_listed(target)


async def test_a_missed_night_is_caught_up() -> None:
    """The next run writes the days of both, and the manifest says which came late."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    await export_of(usage.store, target, now=NIGHT + 3 * DAY)

    manifest = manifest_in(target.files)
    assert manifest["caught_up"] == ["2026-11-24", "2026-11-25"]
    assert manifest["complete_to"] == "2026-11-26"


async def test_months_without_any_calls_are_left_out() -> None:
    """But the month that runs: its file is there, and empty."""
    usage, target = Usage(), MemoryTarget()
    await export_of(usage.store, target)

    assert data_paths(target, "usage-by-month/") == [NOVEMBER]
    assert rows_in(target.files[NOVEMBER]) == []
    check_listed(target)


async def test_one_day_or_one_month_can_be_written() -> None:
    """A month of any age, with its days."""
    usage, target = await november(), MemoryTarget()
    await usage.add("2024-02-29")
    await export_of(usage.store, target, wanted="2026-11-23")
    day_alone = data_paths(target)
    await export_of(usage.store, target, wanted="2024-02")

    assert day_alone == [THE_23RD]
    assert len(data_paths(target)) == 1 + 1 + 29
    check_listed(target)


async def test_a_closed_month_is_written_once() -> None:
    """Its files are final, and later calls are corrections of the month in which they arrive."""
    store, target = await october(), MemoryTarget()
    await export_of(store, target)
    await close(store)
    await export_of(store, target)
    final = {path: data for path, data in target.files.items() if "2026-10" in path}
    await count(store, october_call(9, subject="late"))
    target.log.clear()
    await export_of(store, target, now=NIGHT + DAY)
    await export_of(store, target, wanted="2026-10", now=NIGHT + DAY)

    entries = manifest_in(target.files)["files"]
    assert {entry["final"] for entry in entries if entry["path"] in final} == {True}
    assert {entry["final"] for entry in entries if entry["path"] not in final} == {False}
    assert not [change for change in target.log if "2026-10" in change]
    assert {path: target.files[path] for path in final} == final
    corrections = [row for row in rows_in(target.files[NOVEMBER]) if row["corrections_of"]]
    assert [(row["subject"], row["corrections_of"]) for row in corrections] == [("late", "2026-10")]


async def test_a_file_that_is_gone_is_not_listed() -> None:
    """A lifecycle rule may have deleted it; what is still due is written again."""
    usage, target = await november(), MemoryTarget()
    await usage.add("2024-02-29")
    await export_of(usage.store, target, wanted="2024-02")
    await export_of(usage.store, target)
    del target.files["v1/usage/date=2024-02-29/usage.csv.gz"], target.files[THE_23RD]
    await export_of(usage.store, target)

    assert THE_23RD in target.files
    assert "v1/usage/date=2024-02-29/usage.csv.gz" not in target.files
    check_listed(target)


@pytest.mark.parametrize("life", range(0, 30, 3))
async def test_a_run_that_is_killed_is_made_good_by_the_next(life: int) -> None:
    """After any number of changes the listed files are there, and one run more makes all true."""
    usage, target, whole = await november(), MemoryTarget(), MemoryTarget()
    await export_of(usage.store, target, wanted="2026-11-20")
    await usage.add("2026-11-20", "carol")
    target.life = life
    with suppress(Killed):
        await export_of(usage.store, target)
    listed = {file["path"] for file in manifest_in(target.files)["files"]}
    there = set(target.files)
    target.life, target.is_held = None, False
    await export_of(usage.store, target)
    await export_of(usage.store, whole)

    assert listed <= there
    check_listed(target)
    assert {path: target.files[path] for path in data_paths(target)} == {
        path: whole.files[path] for path in data_paths(whole)
    }


async def test_the_manifest_comes_after_the_files_that_it_lists() -> None:
    """And it is the last change of a run."""
    usage, target = await november(), MemoryTarget()
    await usage.add("2026-10-31")
    await export_of(usage.store, target)
    changes = [change.removeprefix("put ") for change in target.log]

    assert changes[-1] == MANIFEST
    assert changes.index(MANIFEST) == 1 + 31  # October's files, then what lists them


async def test_a_full_disk_leaves_the_manifest_as_it_was() -> None:
    """Nothing is half written, and the run says which file had no room."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    before = target.files[MANIFEST]
    await usage.add("2026-11-20", "carol")
    await usage.add("2026-11-22", "carol")
    target.room = 500
    with pytest.raises(ExportUnavailable, match="no space"):
        await export_of(usage.store, target)

    assert target.files[MANIFEST] == before


async def test_no_room_for_temporary_files_changes_nothing() -> None:
    """Files are made before the first one is put."""

    async def full(report: Report, out: object) -> UsageRow:
        raise OSError(28, "No space left on device")

    usage, target = await november(), MemoryTarget()
    with pytest.raises(ExportUnavailable, match="No space left"):
        await export_of(usage.store, target, writers=Writers(tables={Encoding.CSV: full}))

    assert target.files == {}


async def test_storage_that_fails_changes_nothing() -> None:
    """At whatever reading: a month that cannot be read to its end puts no file."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    before = dict(target.files)
    await usage.add("2026-11-20", "carol")
    failures = 0
    while target.files == before:
        usage.store.plan("scan", *[Fault.NOTHING] * failures, Fault.UNAVAILABLE)
        with suppress(StorageUnavailable):
            await export_of(usage.store, target)
        failures += not usage.store.planned("scan")

    assert failures > 12
    check_listed(target)


async def test_a_second_run_at_the_same_time_is_refused() -> None:
    """Two instances, or a person and the timer."""
    usage, target = await november(), MemoryTarget()
    async with target.hold():
        with pytest.raises(ExportHeld):
            await export_of(usage.store, target)

    assert target.files == {}


async def test_a_month_that_cannot_be_priced_does_not_stop_the_others() -> None:
    """It keeps its files, and the manifest says why."""
    usage, target = await november(), MemoryTarget()
    await usage.add("2026-10-31")
    twice = [price("0.01", start="2026-10-01", end="2026-11-01")] * 2
    prices = book(price("0.01", start="2026-11-01"), *twice)
    await export_of(usage.store, target, book=prices)
    manifest = manifest_in(target.files)

    assert [each["month"] for each in manifest["failed"]] == ["2026-10"]
    assert "equally good" in manifest["failed"][0]["reason"]
    assert data_paths(target, "usage-by-month/") == [NOVEMBER]


async def test_amounts_do_not_vanish_with_a_setting() -> None:
    """An export with money is not written without, nor in another currency."""
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target, book=book(price("0.01")))
    before = dict(target.files)

    for prices in (None, book(price("0.01", currency="EUR"))):
        with pytest.raises(ExportRefused, match="USD"):
            await export_of(usage.store, target, book=prices)
    assert target.files == before


async def test_new_prices_rewrite_settled_months() -> None:
    """The manifest knows by which files amounts were made."""
    usage, target = await november(), MemoryTarget()
    later = datetime.fromisoformat("2027-01-20T02:15:00Z")
    for amount in ("0.01", "0.02"):
        await export_of(
            usage.store,
            target,
            now=later,
            book=book(price(amount)),
            files=[SourceFile(file="prices.csv", sha256=amount)],
        )

    assert rows_in(target.files[THE_23RD])[0]["cost"] == "0.08"
    assert manifest_in(target.files)["sources"] == [{"file": "prices.csv", "sha256": "0.02"}]


async def test_a_change_of_format_leaves_one_file_in_a_folder() -> None:
    """The other one is deleted after the manifest has stopped listing it."""
    both = Writers(tables={Encoding.PARQUET: write_csv_gz, Encoding.CSV: write_csv_gz})
    usage, target = await november(), MemoryTarget()
    await export_of(usage.store, target)
    await export_of(usage.store, target, writers=both)
    kept = data_paths(target)
    target.log.clear()
    await export_of(usage.store, target, writers=both, encoding=Encoding.PARQUET)

    assert {path.rpartition("/")[2] for path in kept} == {"usage.csv.gz"}
    assert {path.rpartition("/")[2] for path in data_paths(target)} == {"usage.parquet"}
    assert target.log.index(f"put {MANIFEST}") < target.log.index(f"delete {THE_23RD}")
    with pytest.raises(ExportRefused, match="needs the extra parquet"):
        await export_of(usage.store, target)
    check_listed(target)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"version": 1}', b'{"version": 2, "files": []}', b"\xff", b"{"]
)
async def test_what_is_no_manifest_is_not_replaced(text: bytes) -> None:
    """It may be of a newer program, or of another one."""
    usage, target = await november(), MemoryTarget(files={MANIFEST: text})
    with pytest.raises(ExportRefused, match=MANIFEST):
        await export_of(usage.store, target)

    assert target.files == {MANIFEST: text}
