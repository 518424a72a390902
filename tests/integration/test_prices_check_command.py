"""`python -m meter prices check` on Azurite: what it prints, and its exit codes."""

import asyncio
import json
from pathlib import Path

import pytest

from meter.__main__ import main
from meter.wiring.commands import open_store
from tests.support.ledger import views_on
from tests.support.prices import book_text, line
from tests.support.reports import row

CHECK = ["prices", "check", "--month", "2026-11"]


async def write_views() -> None:
    async with open_store() as store:
        rows = [row("2026-11-02"), row("2026-11-03", "bob"), row("2026-12-01", model="o3")]
        await views_on(store).write(rows)


def test_the_exit_code_says_whether_all_usage_has_a_price(
    azurite: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 with a price for all; 1 with none for some, or with two that are equally good."""
    monkeypatch.setenv("MeterStorage", azurite)
    monkeypatch.chdir(tmp_path)
    asyncio.run(write_views())
    Path("good.csv").write_text(book_text(line()))
    Path("late.csv").write_text(book_text(line(effective_from="2026-11-03")))
    Path("tie.csv").write_text(book_text(line(tier="standard"), line(context="short")))
    codes = [main([*CHECK, f"{name}.csv"]) for name in ("good", "late", "tie")]
    verdicts = [each for each in capsys.readouterr().out.splitlines() if "PRICED" in each]
    code = main([*CHECK, "--prices", "late.csv", "--format", "json"])
    document = json.loads(capsys.readouterr().out)

    assert codes == [0, 1, 1]
    assert verdicts == [
        "PRICED: all usage has one price",
        "NOT PRICED: 1 without a price, 0 ambiguous",
        "NOT PRICED: 0 without a price, 1 ambiguous",
    ]
    assert code == 1
    assert document["unpriced"] == [
        {
            "model": "gpt-4o-2024-11-20",
            "kind": "input",
            "tier": "standard",
            "context": "short",
            "deployment_type": "",
            "region": "",
            "quantity": 1_000,
            "days": ["2026-11-02"],
        }
    ]
