"""The function app in Microsoft's runtime: `python -m bench.gateway.worker --port N --app FOLDER`.

On Azure a call reaches the worker twice, as a request over HTTP and as an invocation over gRPC. Here
the invocation is made in this process when its request arrives; what gRPC costs is left out.
"""

import argparse
import asyncio
import logging
from collections import deque
from pathlib import Path
from typing import Any

import azure_functions_runtime as runtime
from azure_functions_runtime import http_v2

from local.functions.messages import Message, ParameterBinding, Protos, http_value
from local.functions.worker import Worker
from meter.adapters.functions import extension

_HEADER = extension.INVOCATION_HEADER.encode()
_RUNTIME_LOGGERS = ("azure.functions", "azure_functions_runtime")


class _Queue(logging.Handler):
    """Formats each line and queues it, as the worker does before it sends it to the host."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=1_000)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line."""
        self._lines.append(self.format(record))


class _Invocations:
    """Makes the invocation of every request that arrives."""

    def __init__(self, worker: Worker) -> None:
        [front_door] = worker.triggered_by("httpTrigger")
        argument = http_value("POST", "/", {"path": ""})
        self._fixed = {
            "function_id": front_door.id,
            "input_data": [ParameterBinding(front_door.trigger["name"], argument)],
            "trigger_metadata": {},
            "trace_context": Message(trace_parent="", trace_state="", attributes={}),
            "retry_context": Message(retry_count=0, max_retry_count=0, exception=None),
        }
        self._properties = {"host": "127.0.0.1", "protos": Protos()}
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, invocation_id: str) -> None:
        """Begin one, in a task of its own, as the worker does."""
        invocation = Message(invocation_id=invocation_id, **self._fixed)
        request = Message(
            request=Message(invocation_request=invocation), properties=self._properties
        )
        task = asyncio.create_task(runtime.invocation_request(request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def serve(app: Path, port: int, *, log_lines: bool) -> None:
    """Serve until the process ends."""
    root = logging.getLogger()
    root.addHandler(_Queue())
    root.setLevel(logging.INFO)
    setattr(http_v2, "get_unused_tcp_port", lambda: port)  # noqa: B010  # untyped
    worker = Worker(app)
    # The server listens before all functions are loaded; the host would not send a request so soon.
    loaded: asyncio.Future[_Invocations] = asyncio.get_running_loop().create_future()
    answer = extension.WebApp.__call__

    async def invoked(web_app: extension.WebApp, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            id_of = next(value for name, value in scope["headers"] if name == _HEADER)
            (await loaded).start(id_of.decode())
        await answer(web_app, scope, receive, send)

    setattr(extension.WebApp, "__call__", invoked)  # noqa: B010  # mypy refuses to assign a method
    await worker.start()
    if log_lines:
        for name in _RUNTIME_LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
    loaded.set_result(_Invocations(worker))
    await asyncio.Event().wait()


def main() -> None:
    """Parse the command line; serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.worker")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--app", type=Path, required=True)
    parser.add_argument("--log-lines", action="store_true", help="keep the runtime's INFO lines")
    options = parser.parse_args()
    asyncio.run(serve(options.app, options.port, log_lines=options.log_lines))


if __name__ == "__main__":
    main()
