"""Where a forwarded request and its invocation meet, each under a bounded wait.

On Azure a call reaches the worker twice: as an HTTP request that the host's proxy forwards, and as an
invocation over gRPC, both with one id. Either can come alone. A forward fails for a header that .NET
refuses, a connection that closes, a caller that leaves; and a caller's own id names no invocation. The
runtime lets both wait for ever: the caller hangs, and after `functionTimeout` the host restarts the
worker, with every other call in it. Other languages' workers bound the wait; here it is bounded too.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request

from meter.waiting.alarms import Alarms

INVOCATION_WAIT_SECONDS = 10.0
CANCEL_SECONDS = 1.0
COORDINATOR_MODULE = "azure_functions_runtime.http_v2"
COORDINATOR = "http_coordinator"
TAKE, GIVE = "get_http_request_async", "set_http_response"

log = logging.getLogger(__name__)


class NoInvocation(Exception):
    """The request's id names no invocation, or one that has a request already."""


class RequestNeverCame(Exception):
    """The host began an invocation, but did not forward its request."""


@dataclass(slots=True)
class _Call:
    """A request in the worker's hands, from its arrival to its answer."""

    request: Request
    is_taken: bool
    answer: asyncio.Future[object]
    invocation: asyncio.Task[object] | None = None

    def give_up(self) -> None:
        """Its invocation has not come in time."""
        if not self.is_taken and not self.answer.done():
            self.answer.set_exception(NoInvocation("no invocation has this id"))


class Rendezvous:
    """Pairs requests with invocations by id. One event loop owns it.

    `take_lost` gets what an invocation returned for a request that the server has given up.
    """

    def __init__(self, take_lost: Callable[[object], None], wait_seconds: float) -> None:
        self._take_lost = take_lost
        self._wait_seconds = wait_seconds
        self._calls: dict[str, _Call] = {}
        self._invocations: dict[str, asyncio.Future[Request]] = {}
        self._cancelled: set[asyncio.Task[object]] = set()
        self._deadlines = Alarms()

    @property
    def held(self) -> int:
        """Requests and invocations that are not finished."""
        return len(self._calls) + len(self._invocations)

    async def answer(self, invocation_id: str, request: Request) -> object:
        """What the invocation returned or raised. Raises NoInvocation.

        When this is cancelled, the invocation is.
        """
        if invocation_id in self._calls:
            raise NoInvocation("an invocation has one request")
        loop = asyncio.get_running_loop()
        invocation = self._invocations.get(invocation_id)
        is_awaited = invocation is not None and not invocation.done()
        call = _Call(request, is_taken=is_awaited, answer=loop.create_future())
        self._calls[invocation_id] = call
        alarm = 0
        if invocation is not None and is_awaited:
            invocation.set_result(request)
        else:
            alarm = self._deadlines.set(loop.time() + self._wait_seconds, call.give_up)
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._abandon(call)
            raise
        finally:
            del self._calls[invocation_id]
            self._deadlines.clear(alarm)
            del call  # its failure refers to this frame: a cycle, with all that the frame holds

    async def take(self, invocation_id: str) -> Request:
        """The invocation's request. Raises RequestNeverCame."""
        call = self._calls.get(invocation_id)
        if call is not None and not call.is_taken and not call.answer.done():
            call.is_taken, call.invocation = True, asyncio.current_task()
            return call.request
        if call is not None or invocation_id in self._invocations:
            raise RequestNeverCame(f"the request of {invocation_id} has been taken already")
        loop = asyncio.get_running_loop()
        request: asyncio.Future[Request] = loop.create_future()
        self._invocations[invocation_id] = request
        until = loop.time() + self._wait_seconds
        alarm = self._deadlines.set(until, partial(self._end_wait, request))
        try:
            taken = await request
            if (call := self._calls.get(invocation_id)) is not None:
                call.invocation = asyncio.current_task()
            return taken
        except RequestNeverCame:
            # Written inside the invocation: the host drops the lines of any other.
            log.error(
                "request_undelivered invocation_id=%s waited_seconds=%g",
                invocation_id,
                self._wait_seconds,
            )
            raise
        finally:
            self._deadlines.clear(alarm)
            del self._invocations[invocation_id], request  # as in `answer`

    def _end_wait(self, request: asyncio.Future[Request]) -> None:
        if not request.done():
            text = f"the host forwarded no request within {self._wait_seconds:g} s"
            request.set_exception(RequestNeverCame(text))

    def give(self, invocation_id: str, result: object) -> None:
        """Hand the invocation's result to its request, if that still waits."""
        if isinstance(result, RequestNeverCame):
            return  # a request under this id is another invocation's
        call = self._calls.get(invocation_id)
        if call is not None and not call.answer.done():
            call.answer.set_result(result)
        else:
            self._take_lost(result)

    async def end_cancelled(self) -> None:
        """Wait for the invocations that were cancelled."""
        if self._cancelled:
            await asyncio.wait(self._cancelled, timeout=CANCEL_SECONDS)

    def _abandon(self, call: _Call) -> None:
        """End what works for a request that the server has given up."""
        if call.answer.done() and not call.answer.cancelled():
            if call.answer.exception() is None:
                self._take_lost(call.answer.result())
        elif call.invocation is not None:
            self._cancelled.add(call.invocation)
            call.invocation.add_done_callback(self._cancelled.discard)
            call.invocation.cancel()


def replace_coordinator(rendezvous: Rendezvous) -> bool:
    """Have the runtime's invocations meet their requests here; False if its parts have changed.

    The runtime's coordinator also keeps a reference to every request that it has ever seen.
    """
    coordinator: Any = getattr(sys.modules.get(COORDINATOR_MODULE), COORDINATOR, None)
    if not all(callable(getattr(coordinator, name, None)) for name in (TAKE, GIVE)):
        log.error("runtime_changed missing=%s.%s", COORDINATOR_MODULE, COORDINATOR)
        return False
    setattr(coordinator, TAKE, rendezvous.take)
    setattr(coordinator, GIVE, rendezvous.give)
    return True
