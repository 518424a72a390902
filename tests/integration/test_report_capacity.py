"""`report --capacity` on Azurite: what a month's units cost, and who pays for them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient

from meter.__main__ import main
from meter.ports import Row
from meter.wiring.commands import open_store
from tests.support.capacity import tokens
from tests.support.ledger import views_on
from tests.support.prices import book_text, line
from tests.support.reports import row

CAPACITY = """
[[capacity]]
backend = "ptu"
ptus = 100
from = 2026-11-10
to = 2026-11-12
price_per_ptu_hour = "from price book"
currency = "USD"
idle = "by-share"
[capacity.ratios]
"gpt-4o" = 4
[capacity.tokens_per_minute]
"gpt-4o" = 1
[capacity.shares]
"team:search" = 3
bob = 1
"""


@pytest.fixture
def storage(storage_accounts: Iterator[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour's calls of two subjects, one of them of a team, and a call that spilled over."""
    connection_string = next(storage_accounts)
    monkeypatch.setenv("MeterStorage", connection_string)
    with TableServiceClient.from_connection_string(connection_string) as service:
        service.create_table_if_not_exists("Subjects")
    asyncio.run(_fill())


async def _fill() -> None:
    calls = [
        ("alice", tokens(1_000, 250), tokens(-500), "provisioned"),
        ("bob", tokens(1_500), None, "provisioned"),
        ("bob", tokens(1_000_000), None, "standard"),
    ]
    async with open_store() as store:
        await views_on(store).write(
            [
                row(window, subject, usage=used, adjusted=adjusted, backend="ptu", tier=tier)
                for window in ("2026-11-10T07", "2026-11-10", "2026-11")
                for subject, used, adjusted, tier in calls
            ]
        )
        alice = Row(key="alice", columns={"Subject": "alice", "Team": "search"})
        await store.write("Subjects", "subject", insert=[alice])


def test_a_months_capacity(
    storage: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """48 hours of 100 PTUs at 2, of which half of one hour was used; spilled calls have their price."""
    (tmp_path / "book.csv").write_text(
        book_text(line(price="5"), line(model="*", kind="ptu_hour", unit="1", price="2"))
    )
    (tmp_path / "capacity.toml").write_text(CAPACITY)
    options = [
        "--prices",
        str(tmp_path / "book.csv"),
        "--capacity",
        str(tmp_path / "capacity.toml"),
    ]
    words = ["report", "--from", "2026-11", "--to", "2026-11", "--group", "team,subject", *options]
    codes = [main([*words, "--format", "json"])]
    found = json.loads(capsys.readouterr().out)
    codes.append(main([*words, "--format", "csv"]))
    beside_csv = capsys.readouterr().err

    assert codes == [0, 0]
    names = ("team", "subject", "calls", "cost")
    assert [tuple(each[name] for name in names) for each in found["rows"]] == [
        ("(no team)", "bob", 2, "2430"),  # 50 of the used hour, 2,375 of the idle ones, 5 spilled
        ("search", "(idle) team:search", 0, "7125"),
        ("search", "alice", 1, "50"),
    ]
    assert found["totals"]["cost"] == "9605"
    (of,) = found["capacity"]["entries"]
    assert [of[name] for name in ("hours", "hours_with_use", "cost", "used", "utilisation")] == [
        48,
        1,
        "9600",
        "100",
        "0.010417",
    ]
    assert beside_csv.splitlines()[-1] == (
        "backend ptu  2026-11-10   100     48         1         1.0%  9,600.00 USD  100.00  9,500.00"
    )
