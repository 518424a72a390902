"""`report` with prices on Azurite: output, messages and exit codes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient

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
