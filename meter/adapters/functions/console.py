"""The app's log on standard error, which the Functions host takes whether an invocation runs or not.

Records that a worker sends to the host belong to an invocation, and the host drops them once it has
ended: a streamed call is metered after that. Lines on standard error, without the worker's own prefix
`LanguageWorkerConsoleLog`, get the category `Host.Function.Console` instead. All lines of the app go
there and nowhere else, so none is lost or written twice.

A thread writes them: a host that reads slowly must not stop the event loop.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event, Thread

from meter.publishing.loglines import log_lines

APP_LOGGER = "meter"
# Their INFO is a line or more per request; the web server's access log is off as well.
NOISY_LOGGERS = ("azure", "aiohttp", "uvicorn", "urllib3")
# The worker's own: two lines and more per call, formatted and sent to the host, 0.1 to 0.3 ms of CPU time.
RUNTIME_LOGGERS = ("azure.functions", "azure_functions_runtime", "proxy_worker")
MAX_WAITING_LINES = 10_000
FLUSH_SECONDS = 2.0
FULL_PIPE_SECONDS = 0.01
STDERR = 2


class ConsoleHandler(logging.Handler):
    """Writes records in order, from a thread of its own.

    While `MAX_WAITING_LINES` wait, records below ERROR are only counted (`log_lines_dropped`).
    """

    def __init__(self, write: Callable[[bytes], int]) -> None:
        super().__init__()
        self._write = write
        self._waiting: SimpleQueue[bytes | Event] = SimpleQueue()
        self._dropped = 0
        Thread(target=self._run, name="meter-console", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written; returns at once."""
        if self._waiting.qsize() >= MAX_WAITING_LINES and record.levelno < logging.ERROR:
            self._dropped += 1
            return
        if self._dropped and self._waiting.qsize() < MAX_WAITING_LINES // 2:
            count, self._dropped = self._dropped, 0
            self._put(f"log_lines_dropped count={count}", logging.WARNING, record.created)
        try:
            self._put(self.format(record), record.levelno, record.created)
        except Exception:  # a log call never fails its caller, in the standard handlers too
            self.handleError(record)

    def flush(self) -> None:
        """Wait, for a bounded time, until what waits now is written."""
        written = Event()
        self._waiting.put(written)
        written.wait(FLUSH_SECONDS)

    def _put(self, text: str, level: int, created: float) -> None:
        for line in log_lines(text, level, datetime.fromtimestamp(created, UTC)):
            self._waiting.put(line + b"\n")

    def _run(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, Event):
                item.set()
                continue
            try:
                self._write_whole(item)
            except OSError:
                continue  # nobody reads any more: there is no one left to tell

    def _write_whole(self, line: bytes) -> None:
        while line:
            try:
                line = line[self._write(line) :]
            except BlockingIOError:  # a pipe that another process made non-blocking is full
                time.sleep(FULL_PIPE_SECONDS)


def log_to_console(level: str, *, write: Callable[[bytes], int] | None = None) -> ConsoleHandler:
    """Send the app's records of this level and above to standard error, and libraries' warnings.

    The runtime's lines stay where they go, from its warnings up; at level DEBUG all but its details.
    """
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in RUNTIME_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if level == "DEBUG" else logging.WARNING)
    logger = logging.getLogger(APP_LOGGER)
    for old in _installed():
        logger.removeHandler(old)
    handler = ConsoleHandler(write or (lambda line: os.write(STDERR, line)))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return handler


async def flush_console() -> None:
    """Have what was logged written before the process ends."""
    for handler in _installed():
        await asyncio.to_thread(handler.flush)


def _installed() -> list[ConsoleHandler]:
    handlers = logging.getLogger(APP_LOGGER).handlers
    return [handler for handler in handlers if isinstance(handler, ConsoleHandler)]
