"""`python -m meter unpublished`: what a log has of events, and whether all of it could be used."""

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from meter.__main__ import main
from meter.errors import PublishFailed
from meter.publishing.loglines import log_lines
from meter.usage import encode_event
from tests.support.events import NOW, usage_event

EVENTS = [encode_event(usage_event(number)).decode() for number in (1, 2)]
LOG = "".join(
    line.decode() + "\n"
    for event in EVENTS
    for line in log_lines(f"usage_event_unpublished event={event}", logging.CRITICAL, NOW)
)


def test_the_events_of_all_files_are_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON line each, so that other programs can read them; the summary goes elsewhere."""
    (tmp_path / "a").write_text(LOG)
    (tmp_path / "b").write_text("another line\n" + LOG)
    status = main(["unpublished", str(tmp_path / "a"), str(tmp_path / "b")])

    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [
        json.loads(event) for event in EVENTS
    ]
    assert printed.err == "2 events, 0 unreadable lines\n"
    assert status == 0


def test_a_line_that_cannot_be_read_is_named_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest is printed all the same; nothing is passed over in silence."""
    monkeypatch.setattr("sys.stdin", io.StringIO(LOG + "usage_event_unpublished at=2026\n"))
    status = main(["unpublished"])

    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert printed.err == (
        "unreadable: usage_event_unpublished at=2026\n2 events, 1 unreadable lines\n"
    )
    assert status == 1


def test_publishing_needs_the_settings_of_a_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is missing is named, as with every command."""
    (tmp_path / "log").write_text(LOG)
    for name in ("EventHubConnection", "EventHubConnection__fullyQualifiedNamespace"):
        monkeypatch.delenv(name, raising=False)
    status = main(["unpublished", str(tmp_path / "log"), "--publish"])

    assert status == 1
    assert "error: EventHubConnection is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (
            "AuthenticationError amqp:unauthorized-access",
            "whose role is Azure Event Hubs Data Sender",
        ),
        ("ConnectError socket-error", "socket-error; repeat the command"),
    ],
)
def test_a_hub_that_does_not_take_the_events_says_what_to_do(
    reason: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Get the role, or repeat the command."""

    class Refusing:
        async def send(self, subject: str, events: Sequence[bytes]) -> None:
            raise PublishFailed(f"the hub's partitions are not known: {reason}")

        async def close(self) -> None: ...

    (tmp_path / "log").write_text(LOG)
    monkeypatch.setattr("meter.wiring.metering.build_sender", lambda *_, **_options: Refusing())
    monkeypatch.setenv("EventHubConnection", "Endpoint=sb://hub/;SharedAccessKey=key")
    monkeypatch.setenv("MeterStorage", "AccountName=a;AccountKey=a2V5")
    status = main(["unpublished", str(tmp_path / "log"), "--publish"])

    assert status == 1
    assert shown in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with every command: a message, and 1."""
    status = main(["unpublished", str(tmp_path / "none")])

    assert status == 1
    assert "No such file" in capsys.readouterr().err
