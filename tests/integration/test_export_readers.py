"""What analysts' tools read of a whole export: the totals of the report, in either format."""

import asyncio
import gzip
import io
import json
import re
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow.dataset
import pytest
from azure.storage.blob import ContainerClient

from meter.adapters.blobs.folder import LocalFolder
from meter.reports.export.layout import Encoding
from meter.reports.export.target import ExportTarget
from meter.reports.export.writers import available_writers
from tests.contract.test_export_target import container_on
from tests.support.exports import Usage, export_of
from tests.support.reports import book, price
from tests.support.running import REPOSITORY

LATER = datetime(2027, 1, 2, 2, 15, tzinfo=UTC)
SUBJECTS = ("bob", 'O"Hara, <b>', "=1+1", "日本")
# 31 of alice, 7 of each of the others, 5 in the month that runs.
CALLS, COST = 31 + 4 * 7 + 5, Decimal("0.64")
PAGE = (REPOSITORY / "docs" / "analysts.md").read_text(encoding="utf-8")


async def export_to(target: ExportTarget, encoding: Encoding, now: datetime = LATER) -> int:
    """Export three months, the last of which runs; gives how many files were written."""
    usage = Usage()
    for day in range(1, 32):
        await usage.add(f"2026-12-{day:02}", "alice")
    for subject in SUBJECTS:
        await usage.add("2026-11-23", subject, 7)
    await usage.add("2027-01-01", "bob", 5)
    done = await export_of(
        usage.store,
        target,
        now=now,
        book=book(price("0.01")),
        encoding=encoding,
        writers=available_writers(),
    )
    return len(done.written)


@pytest.fixture(scope="module")
def csv_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("csv")
    asyncio.run(export_to(LocalFolder(place), Encoding.CSV))
    return place


@pytest.fixture(scope="module")
def parquet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("parquet")
    asyncio.run(export_to(LocalFolder(place), Encoding.PARQUET))
    return place


def totals(folder: Path, kind: str) -> tuple[int, Decimal]:
    """What the manifest says of all files of a kind."""
    files = json.loads((folder / "v1" / "manifest.json").read_text())["files"]
    found = [file["totals"] for file in files if file["kind"] == kind]
    return (
        sum(each.get("calls", 0) for each in found),
        sum((Decimal(each.get("cost", "0")) for each in found), Decimal(0)),
    )


def asked(query: str) -> list[Any]:
    """The rows of DuckDB's answer."""
    with duckdb.connect() as connection:
        connection.execute(query)
        return list(connection.fetchall())


@pytest.mark.parametrize("kind", ["usage", "usage-by-month"])
def test_the_manifest_adds_up_to_the_report(
    csv_folder: Path, parquet_folder: Path, kind: str
) -> None:
    """By day and by month, whatever the format."""
    assert totals(csv_folder, kind) == (CALLS, COST)
    assert totals(parquet_folder, kind) == (CALLS, COST)


@pytest.mark.parametrize("kind", ["usage", "usage-by-month"])
def test_duckdb_reads_all_partitions(csv_folder: Path, parquet_folder: Path, kind: str) -> None:
    """Nothing twice, and amounts as decimals."""
    found = [
        asked(
            f"SELECT sum(calls::BIGINT), sum(cost::DECIMAL(38, 10)) FROM "
            f"{read}('{folder}/v1/{kind}/*/usage.{ending}', hive_partitioning = true)"
        )
        for folder, read, ending in (
            (csv_folder, "read_csv", "csv.gz"),
            (parquet_folder, "read_parquet", "parquet"),
        )
    ]

    assert found == [[(CALLS, COST)], [(CALLS, COST)]]


@pytest.mark.parametrize("kind", ["usage", "usage-by-month"])
def test_pandas_and_pyarrow_read_a_folder_of_parquet(parquet_folder: Path, kind: str) -> None:
    """The partition is a column of its own, and no column of the files has its name."""
    frame = pandas.read_parquet(parquet_folder / "v1" / kind)
    table = pyarrow.dataset.dataset(parquet_folder / "v1" / kind, partitioning="hive").to_table(
        use_threads=False
    )

    assert (frame["calls"].sum(), frame["cost"].sum()) == (CALLS, COST)
    assert set(frame["subject"]) == {"alice", *SUBJECTS}
    assert (table.num_rows, sum(table["calls"].to_pylist())) == (len(frame), CALLS)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_later_run_writes_nothing_but_the_pages(tmp_path: Path, encoding: Encoding) -> None:
    """The same rows are the same bytes, in either format; a page says when it was made."""
    asyncio.run(export_to(LocalFolder(tmp_path), encoding))
    pages = list((tmp_path / "v1" / "pages").glob("*.html"))

    later = LATER + timedelta(hours=5)
    # November has settled: it is read again only if its sums change.
    assert [page.stem for page in sorted(pages)] == ["2026-11", "2026-12", "2027-01"]
    assert asyncio.run(export_to(LocalFolder(tmp_path), encoding, later)) == 2


def test_focus_files_add_up_to_the_cost(csv_folder: Path) -> None:
    """One file a month; they are CSV in an export of Parquet, too."""
    sums = "SELECT sum(BilledCost::DECIMAL(38, 10))"

    assert asked(f"{sums} FROM read_csv('{csv_folder}/v1/focus/*/focus.csv.gz')") == [(COST,)]


def blocks(language: str) -> list[str]:
    """The page's examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_query_of_the_page_runs(csv_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a folder of CSV, as it stands there."""
    (csv_folder / "exports").symlink_to(csv_folder)
    monkeypatch.chdir(csv_folder)
    query, on_azure = blocks("sql")

    assert asked(query) == [("(no team)", 64_000, Decimal("0.6400000000"))]
    assert "credential_chain" in on_azure


@pytest.mark.parametrize("encoding", list(Encoding))
def test_the_programs_of_the_page_run(azurite: str, encoding: Encoding) -> None:
    """On a container; only the sign-in is another, since Azurite has no Entra ID."""
    name = f"exports-{encoding.replace('.', '-')}"
    asyncio.run(_fill(azurite, name, encoding))
    with_pandas, plain, _of_tables = blocks("python")
    with ContainerClient.from_connection_string(azurite, name) as client:
        sign_in = re.compile(
            r"ContainerClient\.from_container_url\(.*?^\)", re.DOTALL | re.MULTILINE
        )
        names: dict[str, Any] = {"CLIENT": client}
        said = io.StringIO()
        with redirect_stdout(said):
            exec(sign_in.sub("CLIENT", with_pandas), names)
        exec(plain, names)

    assert (names["days"]["calls"].sum(), len(names["days"])) == (CALLS, 36)
    assert "(no team)    64000" in said.getvalue()
    assert names["cost"] == (COST if encoding is Encoding.CSV else 0)


async def _fill(azurite: str, name: str, encoding: Encoding) -> None:
    container = container_on(azurite, name)
    try:
        await export_to(container, encoding)
    finally:
        await container.close()


def test_each_month_has_a_page(csv_folder: Path) -> None:
    """Which shows whose usage it is of."""
    text = (csv_folder / "v1" / "pages" / "2026-12.html").read_text(encoding="utf-8")

    assert text.startswith("<!")
    assert "2026-12" in text


def test_a_file_has_the_texts_of_its_subjects(csv_folder: Path) -> None:
    """As CSV has them everywhere: guarded against formulas."""
    path = csv_folder / "v1" / "usage" / "date=2026-11-23" / "usage.csv.gz"

    assert '"\'=1+1"' in gzip.decompress(path.read_bytes()).decode()
