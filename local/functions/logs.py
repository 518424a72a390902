"""Which of the worker's log lines reach the operator, as on Azure.

The worker sends each record to the host with an invocation's id; the host keeps the record if that
invocation is running, and drops all others. An invocation of a streamed answer ends before the stream.

| the record comes from              | its id is that of                                           |
|------------------------------------|-------------------------------------------------------------|
| a task of an invocation            | this invocation; tasks inherit it from the task that makes them |
| any other task, the HTTP server's among them | the invocation that began last in this thread     |
| a thread in which none began       | none                                                        |

Sources: `get_current_invocation_id` and `ContextEnabledTask` in github.com/Azure/
azure-functions-python-worker, workers/proxy_worker/dispatcher.py; `GrpcWorkerChannel.Log` and
`InvokeResponse` in github.com/Azure/azure-functions-host. What the app writes to standard error itself
is not a record: the host's `WorkerProcess` takes it line by line, whatever runs.
"""

import asyncio
import logging
import sys
import threading
from collections.abc import Coroutine, Generator
from contextvars import Context
from pathlib import Path
from typing import Any, TextIO

# The runtime's own lines: they go to Microsoft, not to the app's operator.
SYSTEM_LOGGERS = ("azure.functions", "azure_functions_runtime", "proxy_worker")
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class InvocationTask(asyncio.Task[Any]):
    """A task that knows whose it is: the invocation of the task that made it."""

    invocation_id: str | None = None

    def __init__(self, coro: Any, **options: Any) -> None:
        super().__init__(coro, **options)
        self.invocation_id = _id_of(asyncio.current_task(self.get_loop()))


class WorkerLogs(logging.Handler):
    """Takes all records of the worker's process, and keeps those that the host would keep."""

    def __init__(self, dropped: Path | None) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT))
        self._dropped = dropped
        self._running: set[str] = set()
        self._last_of_thread: dict[int, str] = {}

    def install(self) -> None:
        """Take the root logger's records and mark this loop's tasks. Call it in the worker's loop."""
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(logging.INFO)
        asyncio.get_running_loop().set_task_factory(_new_task)

    def begin(self, invocation_id: str) -> None:
        """The current task is this invocation's from now on."""
        self._running.add(invocation_id)
        self._last_of_thread[threading.get_ident()] = invocation_id
        task = asyncio.current_task()
        if isinstance(task, InvocationTask):
            task.invocation_id = invocation_id

    def end(self, invocation_id: str) -> None:
        """The host has the invocation's response."""
        self._running.discard(invocation_id)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record where it belongs."""
        line = self.format(record)
        if record.name.startswith(SYSTEM_LOGGERS):
            if record.levelno >= logging.WARNING:
                _write(sys.stderr, line)
        elif self._current() in self._running:
            _write(sys.stderr, line)
        elif self._dropped is None:
            _write(sys.stderr, f"dropped by the host: {line}")
        else:
            with self._dropped.open("a") as file:
                _write(file, line)

    def _current(self) -> str | None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        return _id_of(task) or self._last_of_thread.get(threading.get_ident())


def log_of_the_host() -> None:
    """The host's own lines, to which the rule does not apply."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("local")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def _new_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    context: Context | None = None,
    **options: Any,
) -> InvocationTask:
    return InvocationTask(coro, loop=loop, context=context, **options)


def _id_of(task: asyncio.Task[Any] | None) -> str | None:
    return task.invocation_id if isinstance(task, InvocationTask) else None


def _write(file: TextIO, line: str) -> None:
    file.write(f"{line}\n")
    file.flush()
