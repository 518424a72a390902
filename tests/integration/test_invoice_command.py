"""`invoice` on Azurite: a month's bill from the export to each team, as docs/chargeback.md has it."""

import asyncio
import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient

from meter.__main__ import main
from meter.ports import Row
from meter.reports.focus.version import FocusVersion
from meter.usage import TokenUsage
from meter.wiring.commands import open_store
from tests.support.focus import rows_of, summed
from tests.support.focus_spec import problems_of
from tests.support.invoice import INPUT, OUTPUT, csv_of, details
from tests.support.ledger import views_on
from tests.support.prices import book_text, line
from tests.support.reconcile import EAST
from tests.support.reports import row


@pytest.fixture
def storage(storage_accounts: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A day's use of two subjects, one of them of a team."""
    monkeypatch.delenv("METER_MONITOR_URL", raising=False)
    backend = {
        "name": "eu",
        "url": "https://eu.example",
        "resource_id": EAST,
        "deployments": {"gpt-4o": {"name": "gpt-4o", "deployment_type": "global"}},
    }
    monkeypatch.setenv("METER_BACKENDS", json.dumps([backend]))
    connection_string = next(storage_accounts)
    monkeypatch.setenv("MeterStorage", connection_string)
    with TableServiceClient.from_connection_string(connection_string) as service:
        service.create_table_if_not_exists("Subjects")
    asyncio.run(_fill())


async def _fill() -> None:
    alice = TokenUsage(prompt_tokens=600_000, completion_tokens=60_000)
    bob = TokenUsage(prompt_tokens=200_000, completion_tokens=50_000)
    async with open_store() as store:
        await views_on(store).write(
            [
                row("2026-10-01", "alice", usage=alice, backend="eu"),
                row("2026-10-01", "bob", usage=bob, backend="eu"),
            ]
        )
        search = Row(key="alice", columns={"Subject": "alice", "Team": "search"})
        await store.write("Subjects", "subject", insert=[search])


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A million input tokens for 2.50 with a refund of 0.50, and 100,000 output tokens for 1.00."""
    file = tmp_path / "export.csv"
    used = {"Quantity": "1000", "CostInBillingCurrency": "2.50"}
    refund = {"Quantity": "0", "CostInBillingCurrency": "-0.50", "ChargeType": "Refund"}
    output = {"Quantity": "100", "CostInBillingCurrency": "1.00", "MeterName": OUTPUT}
    file.write_text(csv_of(details(**used), details(**refund), details(**output, MeterId="o")))
    return file


def test_a_months_bill_by_team(
    storage: None, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines sum to the export; what was not counted, and what was not billed, is told."""
    words = ["invoice", "--export", str(export), "--month", "2026-10"]
    code = main([*words, "--group", "team", "--format", "json"])
    shown = capsys.readouterr()
    table_code = main([*words, "--group", "team"])
    table = capsys.readouterr().out
    file = tmp_path / "lines.csv"
    csv_code = main([*words, "--format", "csv", "--out", str(file)])

    assert (code, table_code, csv_code) == (0, 0, 0)
    found = json.loads(shown.out)
    assert [
        tuple(line[name] for name in ("charge_type", "team", "quantity", "ratio", "cost"))
        for line in found["lines"]
        if line["meter_name"] == INPUT
    ] == [
        ("Usage", "(no team)", 200_000, "0.2", "0.5"),
        ("Usage", "search", 600_000, "0.6", "1.5"),
        ("Usage", None, 200_000, "0.2", "0.5"),
        ("Refund", "(no team)", 0, "0.2", "-0.1"),
        ("Refund", "search", 0, "0.6", "-0.3"),
        ("Refund", None, 0, "0.2", "-0.1"),
    ]
    assert sum(Decimal(line["cost"]) for line in found["lines"]) == 3
    totals = found["totals"]
    assert (totals["cost"], totals["currency"], totals["rows"]) == ("3", "USD", 3)
    assert totals["costs"] == {"counted": "2.6", "not through the meter": "0.4", "unmapped": "0"}
    names = ("kind", "billed", "counted", "not_counted", "not_billed", "cost_not_counted")
    assert [tuple(meter[name] for name in names) for meter in totals["meters"]] == [
        ("input", 1_000_000, 800_000, 200_000, 0, "0.4"),
        ("output", 100_000, 110_000, 0, 10_000, "0"),
    ]
    assert [(each["kind"], each["quantity"]) for each in found["unbilled"]] == [("output", 10_000)]
    assert found["unmapped"] == []
    assert shown.err == (
        "warning: 0.4 USD is not through the meter: its quantities were billed and not counted\n"
    )
    assert table == TABLE
    with file.open(newline="") as rows:
        assert sum(Decimal(each["cost"]) for each in csv.DictReader(rows)) == 3


def test_a_month_as_focus_files(
    storage: None, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Priced, and as billed; both name the account and whom its charges are split among."""
    prices, out = tmp_path / "prices.csv", tmp_path / "focus.csv"
    prices.write_text(book_text(line(), line(kind="output", price="10")))
    month = ["--from", "2026-10", "--to", "2026-10", "--prices", str(prices)]
    code = main(["report", *month, "--format", "focus", "--billing-account", "b-1"])
    report = capsys.readouterr().out
    split = ["invoice", "--export", str(export), "--month", "2026-10", "--out", str(out)]
    split_code = main([*split, "--format", "focus", "--focus-version", "1.4"])

    assert (code, split_code) == (0, 0)
    assert problems_of(report, FocusVersion.V1_2) == []
    assert problems_of(out.read_text(), FocusVersion.V1_4) == []
    # 800,000 input tokens at 2.50 and 110,000 output tokens at 10.00 per million.
    assert summed(rows_of(report)) == Decimal("3.1")
    assert {each["BillingAccountId"] for each in rows_of(report)} == {"b-1"}
    assert summed(rows_of(out.read_text())) == 3
    for text in (report, out.read_text()):
        assert {each["ResourceId"] for each in rows_of(text)} == {EAST}
        assert {each["x_Team"] for each in rows_of(text)} >= {"search", "(no team)"}


TABLE = """\
2026-10, 3 billed rows, USD
team                     cost      %
-----------------------  ----  -----
search                   1.75  58.2%
(no team)                0.85  28.5%
(not through the meter)  0.40  13.3%
-----------------------  ----  -----
total                    3.00

quantities that differ           billed  counted  not counted  not billed  cost not counted
----------------------------  ---------  -------  -----------  ----------  ----------------
gpt 4o 1120 Inp glbl Tokens   1,000,000  800,000      200,000           0              0.40
gpt 4o 1120 Outp glbl Tokens    100,000  110,000            0      10,000              0.00
"""
