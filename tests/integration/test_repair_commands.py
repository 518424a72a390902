"""The repair commands on Azurite: arguments, output and exit codes."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import replace
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables import TableServiceClient, UpdateMode

from meter.__main__ import main
from meter.ledger.decode import Message
from meter.ledger.keys import ledger_partition, letter_digest
from meter.usage import UsageEvent, encode_event, new_event_id
from meter.window import Period, window_of
from meter.wiring.commands import open_aggregator
from tests.support.events import document, message, raw_message, usage_event

LAST_HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(minutes=30)
NAMES = "app|gpt-4o|gpt-4o-2024-11-20|east|standard|short"
SHOWN = NAMES.replace("|", "  ")
DAY = window_of(LAST_HOUR, Period.DAY).name
MONTH = DAY[:7]
ENQUEUED = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


@dataclass(slots=True)
class Tables:
    """The tables that the commands work on."""

    connection_string: str

    def receive(self, *messages: Message) -> None:
        """Deliver these messages to the aggregator."""

        async def handle() -> None:
            async with open_aggregator() as aggregator:
                await aggregator.handle(messages)

        asyncio.run(handle())

    def rows(self, table: str) -> list[dict[str, Any]]:
        with TableServiceClient.from_connection_string(self.connection_string) as service:
            return [dict(row) for row in service.get_table_client(table).list_entities()]

    def merge(self, table: str, partition: str, key: str, **columns: object) -> None:
        with TableServiceClient.from_connection_string(self.connection_string) as service:
            entity = {"PartitionKey": partition, "RowKey": key, **columns}
            service.get_table_client(table).update_entity(entity, mode=UpdateMode.MERGE)

    def delete(self, table: str, partition: str, key: str) -> None:
        with TableServiceClient.from_connection_string(self.connection_string) as service:
            service.get_table_client(table).delete_entity(partition, key)

    def empty(self) -> None:
        with TableServiceClient.from_connection_string(self.connection_string) as service:
            for table in service.list_tables():
                service.delete_table(table.name)


@pytest.fixture
def tables(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    monkeypatch.setenv("MeterStorage", azurite)
    tables = Tables(azurite)
    yield tables
    tables.empty()


def call(number: int, subject: str = "alice", **changes: object) -> UsageEvent:
    event = usage_event(number, subject=subject, time=LAST_HOUR)
    return replace(event, id=new_event_id(LAST_HOUR, number.to_bytes(10)), **changes)  # type: ignore[arg-type]  # changes are fields


def enqueued(message: Message) -> Message:
    return replace(message, enqueued_at=ENQUEUED)


def test_a_rebuild_reports_what_it_repaired(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line per row, one per wrong column, and a summary; then all is equal."""
    tables.receive(message(call(1), call(2), call(3, "bob")))
    tables.merge("UsageByDay", DAY, f"alice|{NAMES}", TotalTokens=1, Revision=99)
    tables.delete("UsageByMonth", MONTH, f"bob|{NAMES}")
    dry = main(["rebuild", "--month", MONTH, "--dry-run"])
    shown_dry = capsys.readouterr().out
    wet = main(["rebuild", "--month", MONTH])
    shown = capsys.readouterr().out
    again = main(["rebuild", "--month", MONTH])

    assert (dry, wet, again) == (1, 0, 0)
    assert shown == (
        f"different  alice  {DAY}  {SHOWN}: overwritten\n"
        "    TotalTokens was 1, the ledger says 30\n"
        "    Revision was 99, the ledger says 1\n"
        f"missing  bob  {MONTH}  {SHOWN}: written\n"
        f"{MONTH}: 2 subjects, 3 calls, 6 sums checked\n"
        "missing: 1 found, 1 repaired\n"
        "different: 1 found, 1 repaired\n"
    )
    assert "short: left as it is" in shown_dry
    assert "    Revision is 99, the ledger says 1\n" in shown_dry
    assert shown_dry.endswith("a dry run: nothing was written\n")
    assert capsys.readouterr().out == (
        f"{MONTH}: 2 subjects, 3 calls, 6 sums checked\n"
        "the ledger is sound and the views are equal to it\n"
    )


def test_a_damaged_ledger_exits_with_1_until_it_was_repaired(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reported each time, repaired on request, sound afterwards."""
    tables.receive(message(call(1), call(2)))
    ledger = f"Ledger{MONTH.replace('-', '')}"
    tables.merge(ledger, ledger_partition("alice"), f"s|{MONTH}|alice|{NAMES}", Calls=7)
    codes = [
        main(["rebuild", "--month", MONTH]),
        main(["rebuild", "--month", MONTH, "--repair-ledger"]),
        main(["rebuild", "--month", MONTH]),
    ]

    assert codes == [1, 1, 0]
    shown = capsys.readouterr().out
    assert f"wrong-sum  alice  {MONTH}  {SHOWN}: left as it is\n" in shown
    assert "    Calls is 7, its markers say 2\n" in shown
    assert "short: repaired\n    Calls was 7, its markers say 2\n" in shown
    assert {row["Calls"].value for row in tables.rows("UsageByMonth")} == {2}


def test_a_ledger_that_began_anew_takes_no_view_row_unasked(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """The views may be all that is left; --prune makes them equal to the ledger."""
    tables.receive(message(call(1), call(2), call(3, "bob")))
    with TableServiceClient.from_connection_string(tables.connection_string) as service:
        service.delete_table(f"Ledger{MONTH.replace('-', '')}")
    tables.receive(message(call(4)))
    refused = main(["rebuild", "--month", MONTH])
    shown = capsys.readouterr().out
    kept = sum(row["Calls"].value for row in tables.rows("UsageByMonth"))
    pruned = main(["rebuild", "--month", MONTH, "--prune"])

    assert (refused, kept, pruned) == (1, 3, 0)
    assert f"surplus  bob  {MONTH}  {SHOWN}: left as it is\n" in shown
    assert shown.endswith(
        "6 view rows were kept: they show more calls than the ledger has, and may be all that is "
        "left of them; --prune removes or lowers them\n"
    )
    assert [row["Calls"].value for row in tables.rows("UsageByMonth")] == [1]


def test_a_report_names_a_damaged_cell(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table, partition, row and column in one line; a file keeps what it had."""
    tables.receive(message(call(1)))
    tables.merge("UsageByMonth", MONTH, f"alice|{NAMES}", TotalTokens="15\x1b")
    out = tmp_path / "usage.csv"
    out.write_text("before", encoding="utf-8")
    code = main(["report", "--from", MONTH, "--to", MONTH, "--format", "csv", "--out", str(out)])
    error = capsys.readouterr().err
    repaired = main(["rebuild", "--month", MONTH])

    assert (code, repaired, out.read_text(encoding="utf-8")) == (1, 0, "before")
    assert error == (
        f"error: UsageByMonth, partition {MONTH}, row alice|{NAMES}, column TotalTokens: "
        "a whole number is expected, got '15\\x1b'\n"
    )
    assert main(["report", "--from", MONTH, "--to", MONTH]) == 0


def test_a_month_without_a_ledger_exits_with_1(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be rebuilt from nothing."""
    code = main(["rebuild", "--month", "2025-01"])

    assert code == 1
    assert capsys.readouterr().err == (
        "error: there is no table Ledger202501: the month had no calls, or its ledger was dropped "
        "after its retention. Its views stay as they are.\n"
    )


NOT_JSON = b"\xff\xfe no JSON"


def dead_letters(tables: Tables) -> None:
    ahead = call(2, time=datetime.now(UTC) + timedelta(days=1))
    broken = document(call(3), id="x")
    bodies = [encode_event(ahead), json.dumps(broken).encode(), NOT_JSON]
    tables.receive(*(enqueued(raw_message(b, sequence_number=n)) for n, b in enumerate(bodies)))


def test_dead_letters_are_listed(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    """Listed by key, with the reason; as JSON for scripts; filtered by reason and day."""
    nothing = main(["deadletters", "list"])
    empty = capsys.readouterr().out
    dead_letters(tables)
    table = main(["deadletters", "list"])
    lines = capsys.readouterr().out.splitlines()
    main(["deadletters", "list", "--reason", "not-json", "--format", "json"])
    (chosen,) = json.loads(capsys.readouterr().out)
    main(["deadletters", "list", "--from", "2026-11-24"])
    later = capsys.readouterr().out

    assert (nothing, table) == (0, 0)
    assert empty == later == "no dead letters\n"
    assert [line[:16] for line in lines[1:4]] == [f"2026-11-23/0/{n}/0" for n in range(3)]
    assert [line.split()[1] for line in lines[:4]] == ["ENQUEUED", *["2026-11-23T07:30:00Z"] * 3]
    assert lines[4] == "3 dead letters: 1 in-the-future, 1 invalid-field, 1 not-json"
    assert chosen == {
        "key": f"2026-11-23/0/2/0/{letter_digest('', NOT_JSON)}",
        "reason": "not-json",
        "detail": "the message is not JSON in UTF-8",
        "hub": "",
        "hub_partition": "0",
        "sequence_number": 2,
        "enqueued_at": "2026-11-23T07:30:00.000000Z",
        "body_bytes": 10,
    }


def test_a_body_is_shown_byte_for_byte(
    tables: Tables, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """On a pipe and in a file, even if it was stored compressed."""
    body = os.urandom(200_000)
    tables.receive(enqueued(raw_message(body, sequence_number=7)))
    piped = main(["deadletters", "show", "2026-11-23/0/7/0"])
    shown = capfdbinary.readouterr()
    written = main(["deadletters", "show", "2026-11-23/0/7/0", "--out", str(tmp_path / "body")])
    absent = main(["deadletters", "show", "2026-11-23/0/8/0"])

    assert (piped, written, absent) == (0, 0, 1)
    assert shown.out == body == (tmp_path / "body").read_bytes()
    assert shown.err == b"not-json: the message is not JSON in UTF-8\n"
    assert b"error: there is no dead letter 2026-11-23/0/8/0" in capfdbinary.readouterr().err


def test_a_fixed_letter_is_counted_and_the_others_are_reported(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code says whether all are counted."""
    dead_letters(tables)
    fixed = tmp_path / "fixed.json"
    fixed.write_bytes(encode_event(call(3)))
    dry = main(["deadletters", "replay", "--file", str(fixed), "--dry-run", "2026-11-23/0/1/0"])
    shown_dry = capsys.readouterr().out
    wet = main(["deadletters", "replay", "--file", str(fixed), "2026-11-23/0/1/0"])
    shown = capsys.readouterr().out
    rest = main(["deadletters", "replay"])
    shown_rest = capsys.readouterr().out

    assert (dry, wet, rest) == (0, 0, 1)
    place = r"2026-11-23/0/1/0/[0-9a-f]{16}: "
    assert re.fullmatch(
        place + r"would be counted: 1 call\n1 would be counted, 0 refused \(a dry run\)\n",
        shown_dry,
    )
    assert re.fullmatch(
        place + r"counted: 1 call\n1 replayed, 0 refused; 1 call counted now, 0 before\n", shown
    )
    digest = letter_digest("", NOT_JSON)
    assert shown_rest.splitlines()[1:] == [
        f"2026-11-23/0/2/0/{digest}: refused, not-json: the message is not JSON in UTF-8",
        "0 replayed, 2 refused; 0 calls counted now, 0 before",
    ]
    assert [row["Calls"].value for row in tables.rows("UsageByMonth")] == [1]
    assert len(tables.rows("DeadLetters")) == 2


def test_a_key_that_is_not_there_exits_with_1(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are still tried."""
    dead_letters(tables)
    code = main(["deadletters", "replay", "2026-11-23/0/9/0", "2026-11-23/0/2/0"])

    output = capsys.readouterr()
    assert code == 1
    assert output.err == "error: there is no dead letter 2026-11-23/0/9/0\n"
    assert "1 refused" in output.out


def adjust(*words: str, call_id: object = None, subject: str = "alice") -> int:
    event_id = call(1).id if call_id is None else call_id
    return main(["adjust", "--subject", subject, "--call", str(event_id), *words])


def adjusted(tables: Tables) -> list[tuple[int, int, int]]:
    return [
        (row["Calls"].value, row["TotalTokens"].value, row["AdjustedTotalTokens"].value)
        for row in tables.rows("UsageByMonth")
    ]


def test_an_adjustment_is_counted_beside_its_call_and_once(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command line is the same adjustment; the call keeps its numbers."""
    tables.receive(message(call(1)))
    words = ("--reason", "the answer was filtered", "--completion-tokens", "-2")
    dry = adjust(*words, "--dry-run")
    capsys.readouterr()
    first = adjust(*words)
    shown = capsys.readouterr().out
    adjustment_id = shown.split()[1]
    again = adjust(*words)
    by_id = adjust(*words, "--id", adjustment_id)
    repeated = capsys.readouterr().out
    anew = adjust(*words, "--again")
    too_much = adjust("--reason", "r", "--id", str(call(1).id), "--completion-tokens", "-1")

    assert (dry, first, again, by_id, anew, too_much) == (0, 0, 0, 0, 0, 1)
    assert shown.startswith(f"adjustment {adjustment_id} of call {call(1).id}\n")
    assert shown.endswith("  prompt +0  completion -2  total -2\ncounted\n")
    assert repeated.count(f"adjustment {adjustment_id} of call") == 2
    assert len(re.findall("was counted before, at .*: nothing changed\n", repeated)) == 2
    assert "stands for something else that is counted" in capsys.readouterr().err
    assert adjusted(tables) == [(1, 15, -4)]


def test_operators_at_once_cannot_take_a_call_below_zero(tables: Tables) -> None:
    """Of three commands that each take 4 of 10 tokens, two are counted."""
    tables.receive(message(call(1)))
    command = [sys.executable, "-m", "meter", "adjust", "--subject", "alice"]
    command += ["--call", str(call(1).id), "--prompt-tokens", "-4", "--reason"]
    running = [
        subprocess.Popen([*command, reason], stderr=subprocess.DEVNULL)
        for reason in ("one", "two", "three")
    ]
    codes = [each.wait(60) for each in running]

    assert codes.count(0) == 2
    assert adjusted(tables) == [(1, 15, -8)]


@pytest.mark.parametrize(
    ("words", "code", "refusal"),
    [
        (["--reason", "r"], 2, "at least one count must be other than 0"),
        (["--reason", "r", "--prompt-tokens", "-99"], 2, "prompt_tokens of the call is 10"),
        (["--reason", " ", "--prompt-tokens", "-1"], 2, "a text of 1 to 500 characters"),
        (["--reason", "r", "--prompt-tokens", "x"], 2, "invalid int value"),
        (["--reason", "r", "--time", "2026-11-23"], 2, "takes a time with its offset"),
        (["--reason", "r", "--time", "noon"], 2, "takes a time with its offset"),
        (["--reason", "r", "--id", "7"], 2, "takes an event id, a UUIDv7"),
        (["--reason", "r", "--prompt-tokens", "1", "--time", "2020-01-01T00Z"], 1, "days"),
    ],
)
def test_an_adjustment_that_cannot_be_meant_says_what_is_accepted(
    tables: Tables, capsys: pytest.CaptureFixture[str], words: list[str], code: int, refusal: str
) -> None:
    """2 for invalid arguments, 1 for calls that are not counted; nothing is written."""
    tables.receive(message(call(1)))
    try:
        found = adjust(*words)
    except SystemExit as ending:
        found = int(str(ending.code))

    assert found == code
    assert refusal in capsys.readouterr().err
    assert "AdjustedTotalTokens" not in tables.rows("UsageByMonth")[0]


def test_a_call_that_is_not_counted_cannot_be_adjusted(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor can a call of another subject."""
    tables.receive(message(call(1)))
    code = adjust("--reason", "r", "--prompt-tokens", "-1", subject="bob")

    assert code == 1
    assert capsys.readouterr().err == (f"error: no call {call(1).id} of subject 'bob' is counted\n")
