"""`meter.reading` on Azurite: the report's numbers as plain Python values, inside and outside a loop."""

import json
import re
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from meter.__main__ import main
from meter.errors import InvalidInput, InvalidSettings, StorageUnavailable
from meter.reading import read_usage
from meter.usage import TokenUsage, new_event_id
from tests.integration.test_repair_commands import LAST_HOUR, Tables
from tests.support.events import message, usage_event
from tests.support.prices import book_text, line
from tests.support.running import REPOSITORY

DAY = LAST_HOUR.strftime("%Y-%m-%d")
SUBJECTS = {"alice": 19_777, "bob": 20_015, "zoë|x": 3}


@pytest.fixture(scope="module")
def azurite(azurite: str) -> str:
    """Storage with a call of each subject."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MeterStorage", azurite)
        events = [
            usage_event(
                subject=subject,
                id=new_event_id(LAST_HOUR, number.to_bytes(10)),
                time=LAST_HOUR,
                started_at=LAST_HOUR,
                usage=TokenUsage(prompt_tokens=tokens, total_tokens=tokens),
            )
            for number, (subject, tokens) in enumerate(SUBJECTS.items())
        ]
        Tables(azurite).receive(message(*events))
    return azurite


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A third of a cent per token: no amount has a last digit."""
    path = tmp_path / "book.csv"
    path.write_text(book_text(line(unit="3", price="0.01", model="*", tier="standard")))
    return path


def daily(storage: str, **arguments: Any) -> list[dict[str, Any]]:
    return list(
        read_usage(by="day", first=DAY, last=DAY, group=["subject"], storage=storage, **arguments)
    )


def test_values_are_plain_and_those_of_the_report(
    azurite: str,
    book: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Under the same names; money exact, and a fraction without an end with 20 decimals."""
    monkeypatch.setenv("MeterStorage", azurite)
    words = ["--by", "day", "--from", DAY, "--to", DAY, "--group", "subject"]
    assert main(["report", *words, "--format", "json", "--prices", str(book)]) == 0
    reported = json.loads(capsys.readouterr().out)["rows"]
    found = daily(azurite, prices=[book])

    assert [row["subject"] for row in found] == list(SUBJECTS)
    for row, told in zip(found, reported, strict=True):
        start = row.pop("window_start")
        assert start == datetime.fromisoformat(DAY).replace(tzinfo=UTC)
        assert row.keys() == told.keys()
        assert {type(value) for value in row.values()} <= {
            int,
            str,
            Decimal,
            datetime,
            list,
            type(None),
        }
        for name, value in row.items():
            text = f"{value:f}" if isinstance(value, Decimal) else value
            assert (told[name] if not isinstance(value, datetime) else value) == text
        assert row["first_call_at"] == LAST_HOUR
    assert [row["cost"] for row in found] == [
        Decimal("65.92333333333333333333"),
        Decimal("66.71666666666666666667"),
        Decimal("0.01"),
    ]


def test_the_example_of_the_page_runs(
    azurite: str, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands in docs/analysts.md, on this account and in this month."""
    page = (REPOSITORY / "docs" / "analysts.md").read_text(encoding="utf-8")
    section = page[page.index("## In a notebook") :]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(book.parent)
    (book.parent / "list.csv").write_text(book.read_text())
    (book.parent / "contract.csv").write_text(book.read_text())
    text = block[1].replace("https://DATA_ACCOUNT.table.core.windows.net", azurite)
    names: dict[str, Any] = {}
    exec(text.replace("2026-11", DAY[:7]), names)  # the page's own code

    assert names["tokens"].to_dict() == {"(no team)": 39_795}
    assert names["cost"].to_dict() == {"(no team)": Decimal("132.65")}
    assert names["models"].fetchall() == [("gpt-4o-2024-11-20", 39_795)]


def test_pandas_and_duckdb_add_the_rows_up(azurite: str, book: Path) -> None:
    """Counts are numbers to them, and amounts decimals."""
    frame = pd.DataFrame(daily(azurite, prices=[book]))
    whole = duckdb.sql("SELECT sum(net_total_tokens)::BIGINT AS tokens FROM frame")

    assert frame["total_tokens"].dtype == "int64"
    assert frame.groupby("currency")["total_tokens"].sum().to_dict() == {"USD": 39_795}
    assert whole is not None
    assert whole.fetchall() == [(39_795,)]
    assert frame["cost"].sum() == Decimal("132.65")


async def test_it_works_while_an_event_loop_runs(azurite: str) -> None:
    """As in Jupyter; the thread is gone with the last row."""
    found = daily(azurite)

    assert {row["subject"]: row["total_tokens"] for row in found} == SUBJECTS
    assert [each for each in threading.enumerate() if each.name.startswith("meter-")] == []


def test_an_iterator_that_is_left_ends_its_thread_and_connections(azurite: str) -> None:
    """Half a month may be enough for somebody."""
    rows = read_usage(by="day", first=DAY, storage=azurite)
    first = next(rows)
    rows.close()  # type: ignore[attr-defined]  # it is a generator

    assert first["calls"] == 1
    assert [each for each in threading.enumerate() if each.name.startswith("meter-")] == []


def test_the_environment_says_where_the_tables_are(
    azurite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the commands; a window may be a text, a date or a moment in UTC."""
    monkeypatch.setenv("MeterStorage", azurite)
    windows = (DAY, date.fromisoformat(DAY), LAST_HOUR)
    found = [
        sum(int(str(row["calls"])) for row in read_usage(by="hour", first=each, last=each))
        for each in windows
    ]

    assert found == [3, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"by": "week"}, "by is one of hour, day, month; got 'week'"),
        ({"group": ["teem"]}, "a group is one of subject, name, team, .*; got 'teem'"),
        ({"first": "2026-02-30"}, "a time is YYYY-MM, .* got '2026-02-30'"),
        (
            {"by": "month", "first": "2026-11-02", "last": "2026-11"},
            "is inside a month: use by=day",
        ),
        ({"last": "2020-01"}, "is after the end 2020-01: give first as well"),
        ({"first": datetime(2026, 11, 2)}, "needs its time zone"),  # noqa: DTZ001  # the mistake
        ({"currency": "EUR"}, "takes effect with prices only"),
    ],
)
def test_mistakes_are_refused_before_anything_is_read(arguments: dict[str, Any], says: str) -> None:
    """In the words of the commands, though no row was asked for yet."""
    with pytest.raises(ValueError, match=says):
        read_usage(**arguments, storage="UseDevelopmentStorage=true")


def test_prices_and_settings_are_checked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the commands' own exceptions."""
    for name in ("MeterStorage", "MeterStorage__tableServiceUri", "AzureWebJobsStorage"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_usage(prices=str(tmp_path / "none.csv"))
    with pytest.raises(InvalidSettings, match="MeterStorage"):
        read_usage()
    with pytest.raises(InvalidSettings, match="MeterStorage__tableServiceUri"):
        read_usage(storage="https://contoso.blob.core.windows.net")


def test_storage_that_does_not_answer_is_named() -> None:
    """At the first row."""
    closed = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"
    with pytest.raises(StorageUnavailable):
        next(read_usage(storage=closed))
