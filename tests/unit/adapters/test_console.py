"""The app's log: on standard error, whole, once, and never in the way of a call."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from meter.adapters.functions import console
from meter.adapters.functions.console import ConsoleHandler, flush_console, log_to_console
from meter.publishing.loglines import unpublished_events
from meter.usage import encode_event
from tests.support.events import usage_event

log = logging.getLogger("meter.anything")
EVENT = encode_event(usage_event(1)).decode()


@dataclass
class Pipe:
    """What was written; it can be full, broken, or take a few bytes at a time."""

    written: bytearray = field(default_factory=bytearray)
    is_open: threading.Event = field(default_factory=threading.Event)
    most: int = 1_000_000
    errors: list[OSError] = field(default_factory=list)

    def write(self, line: bytes) -> int:
        assert self.is_open.wait(10)
        if self.errors:
            raise self.errors.pop()
        self.written += line[: self.most]
        return min(len(line), self.most)

    def lines(self) -> list[str]:
        return self.written.decode().splitlines()

    def words(self) -> list[str]:
        return [line.partition(" ")[0] for line in self.lines()]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    loggers = [
        logging.getLogger(name)
        for name in ("meter", *console.NOISY_LOGGERS, *console.RUNTIME_LOGGERS)
    ]
    states = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
    yield
    for each, (level, propagate, handlers) in zip(loggers, states, strict=True):
        each.setLevel(level)
        each.propagate = propagate
        each.handlers[:] = handlers


@pytest.fixture
def pipe() -> Pipe:
    made = Pipe()
    made.is_open.set()
    return made


async def test_each_record_is_written_once(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    """And goes to no other handler: the host would show it a second time."""
    log_to_console("INFO", write=pipe.write)
    log_to_console("INFO", write=pipe.write)  # a second start replaces the first
    log.info("outbox_stored count=%d", 3)
    log.debug("detail")
    await flush_console()

    assert pipe.words() == ["outbox_stored"]
    assert caplog.records == []


async def test_the_level_is_of_the_apps_lines_alone(pipe: Pipe) -> None:
    """A level of INFO must not bring the SDKs' line per request."""
    log_to_console("DEBUG", write=pipe.write)
    names = ["azure.core.pipeline.policies.http_logging_policy", "azure.identity.aio", "azure"]
    names += ["azure.eventhub._pyamqp", "aiohttp.access", "uvicorn.error", "urllib3.connectionpool"]

    assert log.isEnabledFor(logging.DEBUG)
    assert {logging.getLogger(name).isEnabledFor(logging.INFO) for name in names} == {False}
    assert {logging.getLogger(name).isEnabledFor(logging.WARNING) for name in names} == {True}


@pytest.mark.parametrize(("level", "shows_calls"), [("INFO", False), ("DEBUG", True)])
@pytest.mark.parametrize("name", ["azure.functions", "azure_functions_runtime", "proxy_worker"])
async def test_the_runtimes_lines_per_call_are_off_unless_details_are_asked_for(
    pipe: Pipe, name: str, level: str, shows_calls: bool
) -> None:
    """Its warnings are always on."""
    log_to_console(level, write=pipe.write)

    assert logging.getLogger(name).isEnabledFor(logging.INFO) is shows_calls
    assert logging.getLogger(name).isEnabledFor(logging.WARNING)


def test_a_host_that_does_not_read_stops_no_caller(pipe: Pipe) -> None:
    """Records wait in memory; those below ERROR are counted beyond a bound, events never."""
    handler = log_to_console("INFO", write=pipe.write)
    pipe.is_open.clear()
    for _ in range(console.MAX_WAITING_LINES + 100):
        log.info("token_refused reason=%s", "expired")
    for _ in range(10):
        log.critical("usage_event_unpublished event=%s", EVENT)
    pipe.is_open.set()
    handler.flush()
    log.info("outbox_stored count=%d", 1)
    handler.flush()

    words = pipe.words()
    assert words.count("usage_event_unpublished") == 10
    assert words[-2:] == ["log_lines_dropped", "outbox_stored"]
    dropped = int(pipe.lines()[-2].rpartition("=")[2])
    assert words.count("token_refused") + dropped == console.MAX_WAITING_LINES + 100


def test_twenty_thousand_events_are_all_written(pipe: Pipe) -> None:
    """Whatever else the instance does: each is read back from the log."""
    handler = ConsoleHandler(pipe.write)
    ids = [f"01a20983-494f-7586-86d9-{number:012d}" for number in range(20_000)]
    for each in ids:
        text = f'usage_event_unpublished event={{"id": "{each}", "subject": "alice"}}'
        handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.CRITICAL}))
    deadline = time.monotonic() + 60
    while pipe.written.count(b"\n") < 20_000 and time.monotonic() < deadline:
        handler.flush()

    assert list(unpublished_events(pipe.lines()).by_id) == ids


def test_a_line_that_is_written_in_pieces_is_whole(pipe: Pipe) -> None:
    """A pipe takes what it has room for; a full one that does not block is tried again."""
    pipe.most = 7
    pipe.errors = [BlockingIOError(), BlockingIOError()]
    handler = log_to_console("INFO", write=pipe.write)
    log.critical("usage_event_unpublished event=%s", EVENT)
    handler.flush()

    assert list(unpublished_events(pipe.lines()).by_id.values()) == [EVENT.encode()]


def test_a_broken_pipe_fails_no_call(pipe: Pipe) -> None:
    """Nobody reads; later lines are tried all the same."""
    pipe.errors = [BrokenPipeError()]
    handler = log_to_console("INFO", write=pipe.write)
    log.warning("warmup_failed reason=%s", "first")
    log.warning("warmup_failed reason=%s", "second")
    handler.flush()

    assert [line.rpartition("=")[2] for line in pipe.lines()] == ["second"]


def test_it_writes_to_the_standard_error_of_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    """The file descriptor: a library may replace `sys.stderr`, the host reads the pipe."""
    handler = log_to_console("INFO")
    log.warning("warmup_failed reason=%s", "no network")
    handler.flush()

    assert capfd.readouterr().err.startswith("warmup_failed at=")
    assert os.fstat(console.STDERR)
