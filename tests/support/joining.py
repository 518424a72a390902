"""Callers that give up and ask again, in front of a front door, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from copy import replace
from dataclasses import dataclass, field
from typing import Any

from meter.gateway.http import Answer, StreamingAnswer
from meter.ports import Headers
from tests.fakes.gateway import FakeAnswer, FakeRequestBody, json_answer
from tests.fakes.virtual_time import LoopClock, VirtualTimeLoop
from tests.support.gateway import CHAT_BODY, CHAT_PATH, SERVED, Door, bearer, door, request

NEWS_SECONDS = 0.06  # as late as the host tells of a leaving
SECOND_TRY = ("x-stainless-retry-count", "1")


def in_virtual_time[T](test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test on a loop whose waits take no time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(test())


def slow_door(*answers: FakeAnswer | Exception, **parts: object) -> Door:
    """A front door on the loop's own clock, whose calls may take long."""
    usual = {
        "clock": LoopClock(),
        "first_byte_timeout_seconds": 220.0,
        "total_timeout_seconds": 1_700.0,
    }
    return door(*answers, **(usual | parts))


def served_after(seconds: float, body: bytes = SERVED, *, status: int = 200) -> FakeAnswer:
    """A whole answer whose body is there so much later."""
    answer = json_answer(status, body)
    answer._parts = [Wait(seconds), body]
    return answer


class Wait(asyncio.Event):
    """A part of an answer or of a body that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def wait(self) -> Any:
        await asyncio.sleep(self._seconds)


@dataclass
class Asker:
    """One request as a server hands it in, and takes its answer to the connection."""

    made: Door
    body: bytes | FakeRequestBody = CHAT_BODY
    path: str = CHAT_PATH
    query: str = "api-version=2024-10-21"
    headers: Headers = ()
    credential: Headers = field(default_factory=bearer)
    takes_all: bool = True
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer | StreamingAnswer | None = None
    answered_at: float | None = None
    task: "asyncio.Task[None] | None" = None

    def ask(self) -> "Asker":
        """Send the request."""
        self.task = asyncio.create_task(self._run())
        return self

    async def leave(self, *, told_after: float = 0.0) -> None:
        """Close the connection, and let the server learn of it so much later."""
        if told_after:
            asyncio.get_running_loop().call_later(told_after, self.gone.set)
        else:
            self.gone.set()
            await asyncio.sleep(0.001)

    async def whole(self) -> Answer:
        """The answer, sent."""
        assert self.task is not None
        await self.task
        assert isinstance(self.answer, Answer)
        return self.answer

    async def _run(self) -> None:
        sent = request(
            self.body,
            path=self.path,
            query=self.query,
            headers=(*self.credential, *self.headers),
        )
        self.answer = await self.made.front_door.handle(replace(sent, left=self._left))
        self.answered_at = asyncio.get_running_loop().time()
        if isinstance(self.answer, Answer):
            if self.takes_all:
                self.answer.delivered()  # a server says so of a closed connection, too
            self.answer.release()

    async def _left(self) -> None:
        await self.gone.wait()
