"""Drives the runtime in this process: start, index, load, invoke. It can be started only once."""

import asyncio
import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import azure_functions_runtime as runtime

from local.functions.logs import WorkerLogs
from local.functions.messages import Message, ParameterBinding, TypedData, worker_request

LISTEN_SECONDS = 10.0
LISTEN_TRIES = 500
_HOST = "127.0.0.1"


class AppFailed(Exception):
    """The runtime could not import or index the function app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A function's retry policy; `most` is -1 for unlimited retries."""

    most: int
    first_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """An indexed function with its trigger's binding as declared by the decorators."""

    id: str
    name: str
    trigger: Mapping[str, Any]
    retry: Retry | None


@dataclass(frozen=True, slots=True)
class Invoked:
    """How an invocation ended; `error` is None when it succeeded."""

    error: str | None


class Worker:
    """The language worker of one function app."""

    def __init__(self, app_dir: Path, logs: WorkerLogs | None = None) -> None:
        self._app_dir = app_dir
        self._logs = logs or WorkerLogs(None)
        self.http_uri = ""
        self.functions: tuple[Function, ...] = ()
        self._running: set[asyncio.Task[Invoked]] = set()

    async def start(self) -> None:
        """Import and index the app and start the worker's HTTP server. Raises AppFailed."""
        sys.path.insert(0, str(self._app_dir))
        runtime.start_threadpool_executor()
        init = await runtime.worker_init_request(
            worker_request(
                "worker_init_request",
                {"capabilities": {}, "function_app_directory": str(self._app_dir)},
                host=_HOST,
            )
        )
        if init.result.status != Message.Success:
            raise AppFailed(f"{init.result.exception.message}\n{init.result.exception.stack_trace}")
        self.http_uri = init.capabilities.get("HttpUri", "")
        if self.http_uri:
            await _wait_until_listening(self.http_uri)
        metadata = await runtime.functions_metadata_request(
            worker_request("functions_metadata_request", {})
        )
        self.functions = tuple(map(_function, metadata.function_metadata_results or ()))
        for function in self.functions:
            await runtime.function_load_request(
                worker_request("function_load_request", {"function_id": function.id})
            )

    def triggered_by(self, kind: str) -> tuple[Function, ...]:
        """The functions with that kind of trigger, e.g. `httpTrigger`."""
        return tuple(f for f in self.functions if f.trigger["type"] == kind)

    async def invoke(
        self,
        function: Function,
        argument: TypedData,
        *,
        metadata: Mapping[str, TypedData] | None = None,
        invocation_id: str | None = None,
        retry_count: int = 0,
    ) -> Invoked:
        """Run a function to its end, in a task of its own, as the worker does."""
        invocation_id = invocation_id or str(uuid.uuid4())
        run = self._run(function, argument, metadata or {}, invocation_id, retry_count)
        task = asyncio.create_task(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await task

    async def wait(self, seconds: float) -> None:
        """Give the invocations that run some time to end."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def _run(
        self,
        function: Function,
        argument: TypedData,
        metadata: Mapping[str, TypedData],
        invocation_id: str,
        retry_count: int,
    ) -> Invoked:
        self._logs.begin(invocation_id)
        try:
            response = await runtime.invocation_request(
                _invocation(function, argument, metadata, invocation_id, retry_count)
            )
        finally:
            self._logs.end(invocation_id)
        if response.result.status == Message.Success:
            return Invoked(error=None)
        return Invoked(error=response.result.exception.message)


def _invocation(
    function: Function,
    argument: TypedData,
    metadata: Mapping[str, TypedData],
    invocation_id: str,
    retry_count: int,
) -> Message:
    most = function.retry.most if function.retry else 0
    fields = {
        "invocation_id": invocation_id,
        "function_id": function.id,
        "input_data": [ParameterBinding(function.trigger["name"], argument)],
        "trigger_metadata": metadata,
        "trace_context": Message(trace_parent="", trace_state="", attributes={}),
        "retry_context": Message(retry_count=retry_count, max_retry_count=most, exception=None),
    }
    return worker_request("invocation_request", fields)


async def _wait_until_listening(uri: str) -> None:
    """The runtime reports its HTTP server's address before the server listens."""
    address = urlsplit(uri)
    for _ in range(LISTEN_TRIES):
        try:
            _, writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            await asyncio.sleep(LISTEN_SECONDS / LISTEN_TRIES)
        else:
            writer.close()
            return
    raise AppFailed(f"the worker's HTTP server does not listen at {uri}")


def _function(metadata: Message) -> Function:
    bindings = [json.loads(binding) for binding in metadata.raw_bindings]
    trigger = next(binding for binding in bindings if binding["type"].endswith("Trigger"))
    return Function(
        id=metadata.function_id,
        name=metadata.name,
        trigger=trigger,
        retry=_retry(metadata.retry_options),
    )


def _retry(options: Message | None) -> Retry | None:
    if options is None:
        return None
    fixed: timedelta | None = getattr(options, "delay_interval", None)
    first = fixed or options.minimum_interval
    longest = fixed or options.maximum_interval
    return Retry(
        most=options.max_retry_count,
        first_seconds=first.total_seconds(),
        longest_seconds=longest.total_seconds(),
    )
