"""`report` with prices on Azurite: output, messages and exit codes."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest
from azure.data.tables import TableServiceClient
from openpyxl import load_workbook

from meter.__main__ import main
from meter.ports import Row
from meter.usage import TokenUsage
from meter.wiring.commands import open_store
from tests.support.ledger import views_on
from tests.support.prices import book_text, line
from tests.support.reports import row

NOVEMBER = ["report", "--from", "2026-11", "--to", "2026-11"]


@pytest.fixture
def storage(storage_accounts: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two subjects' usage of two days, one of them of a team, and one without a price."""
    connection_string = next(storage_accounts)
    monkeypatch.setenv("MeterStorage", connection_string)
    with TableServiceClient.from_connection_string(connection_string) as service:
        service.create_table_if_not_exists("Subjects")
    asyncio.run(_fill())


async def _fill() -> None:
    async with open_store() as store:
        await views_on(store).write(
            [
                row("2026-11-22", "alice", calls=1_000),
                row("2026-11-23", "alice", calls=1_000),
                row("2026-11-23", "bob", calls=4_000),
                row("2026-11-23", "bob", model="other", usage=TokenUsage(completion_tokens=12_345)),
            ]
        )
        alice = Row(key="alice", columns={"Subject": "alice", "Team": "search"})
        await store.write("Subjects", "subject", insert=[alice])


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A price that changes on the second day, and one in another currency."""
    path = tmp_path / "book.csv"
    lines = [
        line(price="2.50", effective_to="2026-11-23"),
        line(price="5", effective_from="2026-11-23"),
        line(price="4.60", currency="EUR", kind="output"),
    ]
    path.write_text(book_text(*lines))
    return path


def test_a_months_chargeback(
    storage: None, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By team, in the currency that was asked for; what has no price is told; failures leave no file."""
    by_team = [*NOVEMBER, "--group", "team", "--prices", str(book)]
    kept = tmp_path / "report.json"
    kept.write_text("kept")
    refused = main([*by_team, "--format", "json", "--out", str(kept)])
    refusal = capsys.readouterr()
    code = main([*by_team, "--currency", "USD", "--format", "json"])
    shown = capsys.readouterr()
    as_table = main([*by_team, "--currency", "USD"])
    table = capsys.readouterr()

    assert (refused, refusal.out, kept.read_text()) == (1, "", "kept")
    assert (
        refusal.err == "error: the prices are in EUR and USD: choose one currency with --currency\n"
    )
    assert (code, as_table) == (0, 0)
    found = json.loads(shown.out)
    names = ("team", "calls", "cost", "currency", "share_percent", "unpriced")
    assert [tuple(each[name] for name in names) for each in found["rows"]] == [
        ("(no team)", 4_001, "20", "USD", "72.7273", ["output"]),
        ("search", 2_000, "7.5", "USD", "27.2727", []),
    ]
    assert (found["totals"]["cost"], found["unpriced"][0]["quantity"]) == ("27.5", 12_345)
    assert shown.err == (
        "warning: usage without a price is not in the cost:\n"
        "quantity  model  kind    tier      context  deployment_type  region\n"
        "--------  -----  ------  --------  -------  ---------------  -------\n"
        "  12,345  other  output  standard  short    unknown          unknown\n"
    )
    assert table.err == shown.err
    assert table.out.splitlines()[3:5] == [
        "(no team)  4,001  4,000,000     20.00  72.7%  output",
        "search     2,000  2,000,000      7.50  27.3%",
    ]


def test_every_file_has_the_same_numbers(
    storage: None, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its format is that of its name; a spreadsheet reads the CSV as UTF-8."""
    words = [*NOVEMBER, "--group", "team", "--prices", str(book), "--currency", "USD"]
    files = [tmp_path / f"usage.{ending}" for ending in ("json", "csv", "parquet", "xlsx")]
    codes = [main([*words, "--out", str(file)]) for file in files]

    assert codes == [0, 0, 0, 0]
    assert capsys.readouterr().out == ""
    as_json, as_csv, as_parquet, as_xlsx = (file.read_bytes() for file in files)
    document = json.loads(as_json)
    expected = [(row["team"], row["calls"], Decimal(row["cost"])) for row in document["rows"]]
    assert expected == [("(no team)", 4_001, 20), ("search", 2_000, Decimal("7.5"))]
    assert as_csv.startswith(b'\xef\xbb\xbf"month",')
    assert [
        (row["team"], int(row["net_total_tokens"]), Decimal(row["cost"]))
        for row in csv.DictReader(io.StringIO(as_csv.decode("utf-8-sig"), newline=""))
    ] == [("(no team)", 4_000_000, 20), ("search", 2_000_000, Decimal("7.5"))]
    table = pyarrow.parquet.ParquetFile(io.BytesIO(as_parquet)).read(use_threads=False)
    assert list(
        zip(*(table[name].to_pylist() for name in ("team", "calls", "cost")), strict=True)
    ) == (expected)
    head, *rows = load_workbook(io.BytesIO(as_xlsx))["usage"].values
    found = [dict(zip(map(str, head), row, strict=True)) for row in rows]
    assert [tuple(row[name] for name in ("team", "calls", "cost")) for row in found] == expected


def test_an_output_that_cannot_be_written_is_named(
    storage: None, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk, a folder, and a file that is read: what was there stays."""
    full = main([*NOVEMBER, "--format", "csv", "--out", "/dev/full"])
    full_says = capsys.readouterr().err
    prices = book.read_text()
    for out, reason in ((tmp_path, "is a folder"), (book, "is read by this command")):
        with pytest.raises(SystemExit) as ending:
            main([*NOVEMBER, "--prices", str(book), "--format", "csv", "--out", str(out)])
        assert ending.value.code == 2
        assert f"argument --out: {out} {reason}" in capsys.readouterr().err

    assert (full, full_says) == (1, "error: /dev/full: No space left on device\n")
    assert book.read_text() == prices


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_reader_that_has_enough_ends_it_quietly(form: str, storage: None) -> None:
    """As `| head` does with other tools: the code is that of a broken pipe, and nobody is told."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        words = [sys.executable, "-m", "meter", *NOVEMBER, "--format", form]
        done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (141, "")
