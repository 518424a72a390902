"""Invocations of HTTP functions: which function serves an address, and how its run ends.

The host sends an invocation beside the forwarded request and waits for it, whatever becomes of the
forward and of the caller. One that outlives `functionTimeout` has failed; the real host then restarts
the worker, which this one cannot, as they are one process.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from local.functions.messages import TypedData, http_value
from local.functions.worker import Function, Invoked

# The real host lets this much pass before it acts on a timeout.
TIMEOUT_GRACE_SECONDS = 2.0
DEFAULT_TIMEOUT = "00:30:00"

log = logging.getLogger(__name__)


class Invoker(Protocol):
    """What is needed of the worker."""

    def triggered_by(self, kind: str) -> tuple[Function, ...]:
        """The functions with that kind of trigger."""
        ...

    async def invoke(
        self, function: Function, argument: TypedData, *, invocation_id: str | None = None
    ) -> Invoked:
        """Run a function to its end."""
        ...


@dataclass(frozen=True, slots=True)
class Matched:
    """The function that serves an address, and the parameters of its route."""

    function: Function
    params: Mapping[str, str]


class HttpInvocations:
    """Starts invocations and keeps them until they end; a caller that leaves ends none."""

    def __init__(
        self, worker: Invoker, route_prefix: str, *, timeout_seconds: float | None
    ) -> None:
        self._worker = worker
        self._routes = [
            (_pattern(route_prefix, function.trigger.get("route") or function.name), function)
            for function in worker.triggered_by("httpTrigger")
        ]
        self._timeout_seconds = timeout_seconds
        self.limit_seconds = timeout_seconds and timeout_seconds + TIMEOUT_GRACE_SECONDS
        self._running: set[asyncio.Task[bool]] = set()

    def match(self, method: str, path: str) -> Matched | None:
        """The function for a method and a path, if any."""
        for pattern, function in self._routes:
            found = pattern.fullmatch(path)
            methods = {name.upper() for name in function.trigger.get("methods", ())}
            if found and (not methods or method in methods):
                return Matched(function, found.groupdict())
        return None

    def start(
        self, matched: Matched, method: str, url: str, invocation_id: str
    ) -> asyncio.Task[bool]:
        """Start an invocation. The task's result says whether it succeeded."""
        argument = http_value(method, url, matched.params)
        task = asyncio.create_task(self._run(matched.function, argument, invocation_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _run(self, function: Function, argument: TypedData, invocation_id: str) -> bool:
        run = asyncio.ensure_future(
            self._worker.invoke(function, argument, invocation_id=invocation_id)
        )
        await asyncio.wait({run}, timeout=self.limit_seconds)
        if not run.done():
            log.error(
                "%s ran for over %s s: the real host restarts the worker now",
                function.name,
                self._timeout_seconds,
            )
            return False
        if run.cancelled():
            return False  # the worker ends
        try:
            error = run.result().error
        except Exception as exc:  # the runtime itself failed
            error = f"{type(exc).__name__}: {exc}"
        if error is not None:
            log.error("%s failed: %s", function.name, error)
        return error is None


def timeout_seconds(settings: Mapping[str, object]) -> float | None:
    """`functionTimeout` of host.json, `[days.]hours:minutes:seconds`; -1 means none."""
    text = str(settings.get("functionTimeout", DEFAULT_TIMEOUT))
    if text.startswith("-"):
        return None
    days, _, clock = text.rpartition(".") if text.find(".") < text.find(":") else ("", "", text)
    hours, minutes, seconds = (float(part) for part in clock.split(":"))
    return float(days or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds


def _pattern(prefix: str, route: str) -> re.Pattern[str]:
    """Match a route: `{name}` is one path segment and `{*name}` the rest, as in ASP.NET routing.

    No part of a path that begins with two slashes is matched.
    """
    path = "/" + "/".join(part for part in (prefix.strip("/"), route.strip("/")) if part)
    pieces = re.split(r"(\{\*?\w+\})", path)
    pattern = "(?!//)"
    for piece in pieces:
        if piece.startswith("{*"):
            pattern += f"(?P<{piece[2:-1]}>.*)"
        elif piece.startswith("{"):
            pattern += f"(?P<{piece[1:-1]}>[^/]+)"
        else:
            pattern += re.escape(piece)
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)
