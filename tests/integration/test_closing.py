"""Closing a month on Azurite and a hub, with the commands: refusals, the snapshot, proofs, late calls."""

import asyncio
import json
from collections.abc import Iterator
from copy import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.plan import HUB_NAME, PARTITIONS
from meter.__main__ import main
from meter.bucket import hub_partition_of
from meter.ledger.decode import Message
from meter.ledger.keys import escape
from meter.ports import HubPartition, HubReader
from meter.usage import UsageEvent, encode_event, new_event_id
from meter.window import Period, window_of
from meter.wiring.commands import open_aggregator, open_hub_reader, open_sender
from tests.faults.hub import hub_connection_string, running_hub
from tests.support.events import message, usage_event
from tests.support.running import RunningStack, eventually, new_subject

NOW = datetime.now(UTC)
LAST_MONTH = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=1)
MONTH = window_of(LAST_MONTH, Period.MONTH).name
THIS_MONTH = window_of(NOW, Period.MONTH).name


@pytest.fixture(scope="module")
def services(azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Storage and a hub, named in the environment."""
    folder = tmp_path_factory.mktemp("closing")
    with (
        pytest.MonkeyPatch.context() as environment,
        running_hub(folder / "hub") as hub,
    ):
        environment.setenv("MeterStorage", azurite)
        environment.setenv("EventHubConnection", hub_connection_string(hub.port))
        environment.setenv("METER_EVENT_HUB", HUB_NAME)
        yield


def call(number: int, subject: str = "alice", *, time: datetime = LAST_MONTH) -> UsageEvent:
    event = usage_event(number, subject=subject, time=time)
    return replace(event, id=new_event_id(time, number.to_bytes(10)))


def publish(*events: UsageEvent) -> None:
    async def send() -> None:
        async with open_sender() as sender:
            for event in events:
                await sender.send(event.subject, [encode_event(event)])

    asyncio.run(send())


def receive(*messages: Message) -> None:
    async def handle() -> None:
        async with open_aggregator() as aggregator:
            await aggregator.handle(messages)

    asyncio.run(handle())


def read_all() -> None:
    """Give the aggregator what is on the hub, as the trigger does."""

    async def read() -> list[Message]:
        async with open_hub_reader() as reader:
            held = [each for each in await reader.partitions() if not each.is_empty]
            found = await asyncio.gather(*(_messages(reader, each) for each in held))
            return [message for messages in found for message in messages]

    receive(*asyncio.run(read()))


async def _messages(reader: HubReader, held: HubPartition) -> list[Message]:
    bodies = reader.read(held.id, first=held.first_number, last=held.last_number)
    return [
        Message(
            body=body,
            hub=reader.name,
            hub_partition=held.id,
            sequence_number=number,
            enqueued_at=held.last_enqueued_at,
        )
        for number, body in enumerate([each async for each in bodies], held.first_number)
    ]


def test_a_month_is_closed_once_nothing_waits_and_then_stays(
    services: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unread events are a reason; then it is closed, once; a late call is a correction."""
    publish(*(call(number, f"s{number % 7}") for number in range(40)), call(99, time=NOW))
    receive(message(call(100)))
    unread = main(["close", "--month", MONTH])
    refusal = capsys.readouterr()
    read_all()
    publish(call(101, time=NOW))
    book = tmp_path / "book.csv"
    book.write_text("a price book")
    closed = main(["close", "--month", MONTH, "--prices", str(book), "--by", "finance"])
    shown = capsys.readouterr()
    again = main(["close", "--month", MONTH])
    second = capsys.readouterr()
    running = main(["close", "--month", THIS_MONTH, "--force"])
    checked = main(["close", "--month", MONTH, "--check"])

    assert (unread, closed, again, running, checked) == (1, 0, 1, 1, 0)
    assert refusal.err.count(f" of {MONTH}: ") >= 1
    assert "hub partition " in refusal.err
    assert "--force closes it anyway" in refusal.err
    assert shown.out.startswith(f"{MONTH} is closed: 41 calls, 615 tokens, ")
    root = shown.out.split()[-1]
    assert root in second.err
    assert "by finance" in second.err
    assert f"{THIS_MONTH} is running" in capsys.readouterr().err
    receive(message(call(200)))
    _prove(root, tmp_path, capsys)
    reported = main(["report", "--from", MONTH, "--to", THIS_MONTH, "--group", ""])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert reported == 0
    assert [line[:2] for line in lines if line[0] == MONTH] == [[MONTH, "41"]]
    assert [THIS_MONTH, "corrections", "of", MONTH, "1"] in [line[:5] for line in lines]


def _prove(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A call that was closed can be proven, also beside one that arrived later."""
    file = tmp_path / "proof.json"
    words = ["--subject", "alice", "--out", str(file)]
    proven = main(["prove", str(call(100).id), *words])
    late = main(["prove", str(call(200).id), "--subject", "alice", "--month", MONTH])
    errors = capsys.readouterr().err
    checked = main(["verify-proof", str(file), "--root", root])
    said = capsys.readouterr().out
    other = main(["verify-proof", str(file), "--root", "0" * 64])
    document = json.loads(file.read_text())
    document["closed"]["totals"]["calls"] += 1
    file.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    changed = main(["verify-proof", str(file)])

    assert (proven, late, checked, other, changed) == (0, 1, 0, 1, 1)
    assert "it is a correction, and not in the closed total" in errors
    assert said.startswith(
        f"{call(100).id} of subject alice is in the closed total of {MONTH} once\n"
    )


async def test_a_hub_is_read_along_up_to_a_number(services: None) -> None:
    """Not further, and whoever else reads is not disturbed."""
    async with open_sender() as sender:
        for number in range(5):
            await sender.send("alice", [encode_event(call(number))])
    async with open_hub_reader() as reader:
        place = hub_partition_of("alice", PARTITIONS)
        held = next(each for each in await reader.partitions() if each.id == str(place))
        first = held.last_number - 3
        bodies = [body async for body in reader.read(held.id, first=first, last=first + 2)]

    assert len(bodies) == 3
    assert [json.loads(body)[0]["id"] for body in bodies] == [str(call(n).id) for n in (1, 2, 3)]


def test_the_trigger_stores_where_it_stands_under_the_readers_name_of_the_hub(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or every event would count as unread."""
    connection = stack.description["event_hub_connection_string"]
    monkeypatch.setenv("MeterStorage", stack.description["storage_connection_string"])
    monkeypatch.setenv("EventHubConnection", connection)
    monkeypatch.setenv("METER_EVENT_HUB", stack.description["event_hub_name"])
    subject = new_subject("closing")
    body = {"messages": [{"role": "user", "content": "hello"}]}
    path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    stack.post(path, stack.token(subject), body).raise_for_status()
    stack.wait_until_counted(subject, 1)

    async def name() -> str:
        async with open_hub_reader() as reader:
            return reader.name

    hub = escape(asyncio.run(name()))
    eventually(
        lambda: any(row["RowKey"].startswith(f"{hub}|") for row in stack.rows("HubPositions")),
        f"a position of {hub}",
    )
