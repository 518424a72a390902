"""`python -m meter adjust`: what it prints, and when; the same command line is safe to repeat."""

import asyncio
import re

import pytest

from meter.__main__ import main
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, USAGE, message, usage_event
from tests.support.ledger import aggregator_on

CALL = usage_event(1, deployment="gpt\x1b[2J", model="m\u202e", usage=USAGE)
WORDS = ["adjust", "--subject", "alice", "--call", str(CALL.id), "--reason", "r"]
WORDS += ["--prompt-tokens", "-4"]


class ClosableStore(MemoryRowStore):
    """A store as the adapter is."""

    async def close(self) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> ClosableStore:
    """The tables that the command works on, with one call of 10 tokens."""
    store = ClosableStore()
    asyncio.run(_count(store))
    monkeypatch.setattr("meter.adapters.clients.build_store", lambda _: store)
    monkeypatch.setenv("MeterStorage", "AccountName=a;AccountKey=c2VjcmV0")
    return store


async def _count(store: MemoryRowStore) -> None:
    await aggregator_on(store).handle([message(CALL)])


def adjust(*words: str) -> int:
    return main([*WORDS, *words], clock=FakeClock(moment=NOW))


def adjusted(store: MemoryRowStore) -> list[object]:
    return [row.get("AdjustedPromptTokens", 0) for row in store.rows("UsageByMonth").values()]


def test_the_id_and_the_time_are_printed_before_anything_is_written(
    store: ClosableStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator whose line drops knows what was tried."""
    seen: list[str] = []

    async def look() -> None:
        seen.append(capsys.readouterr().out)

    writes = len(store.transactions)
    store.intrude(look)
    assert adjust() == 0

    assert len(store.transactions) > writes
    assert re.match(
        rf"adjustment [0-9a-f-]{{36}} of call {CALL.id}\n  alice  .*2026-11-23T07:30:00.*Z\n",
        seen[0],
    )
    assert "counted" not in seen[0]
    assert capsys.readouterr().out == "counted\n"


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.ANSWER_LOST])
@pytest.mark.parametrize("writes_before", range(8))
def test_the_same_command_line_after_an_unknown_outcome_counts_once(
    store: ClosableStore,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    writes_before: int,
) -> None:
    """Whichever write went wrong: note, subject, ledger, views or the last note."""
    store.plan("write", *[Fault.NOTHING] * writes_before, fault)
    first = adjust()
    output = capsys.readouterr()
    store.forget_plans()
    again = adjust()

    assert again == 0
    assert adjusted(store) == [-4]
    if first:
        assert "it is unknown what was written: run the command again\n" in output.err
        assert output.out.split()[1] == capsys.readouterr().out.split()[1]


def test_one_that_is_counted_again_says_how_it_is_retried(
    store: ClosableStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its id is its own, so the same line would be another one."""
    adjust()
    capsys.readouterr()
    store.plan("write", Fault.NOTHING, Fault.NOTHING, Fault.ANSWER_LOST)
    assert adjust("--again") == 1
    output = capsys.readouterr()
    adjustment_id = output.out.split()[1]
    assert f"run the command again with --id {adjustment_id}\n" in output.err

    assert adjust("--again", "--id", adjustment_id) == 0
    assert adjust("--id", adjustment_id) == 0
    assert adjusted(store) == [-8]


def test_no_text_of_a_call_steers_the_terminal(
    store: ClosableStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names come from callers and backends; refusals repeat what was asked."""
    adjust()
    adjust("--id", str(CALL.id))
    main([*WORDS, "--subject", "\x1b[2J"])

    output = capsys.readouterr()
    assert "gpt\\x1b[2J  m\\u202e" in output.out
    for text in (output.out, output.err):
        assert all(char.isprintable() or char == "\n" for char in text)
