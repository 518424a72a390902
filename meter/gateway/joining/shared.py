"""One counted call, and the requests that its answer is for: the call's own, and those that joined.

| state     | until                                                       | a repeat     |
|-----------|-------------------------------------------------------------|--------------|
| under way | the answer is there, whoever still waits for it             | waits for it |
| answered  | one caller has got all of it, or all have left              | gets it      |
| kept      | a repeat has got all of it, its time ends, or room is short | gets it      |
| over      |                                                             | is a call    |

A failure is over as soon as those that wait have it. An answer that is relayed as it comes cannot be
shared: the call is over, and those that joined are told to ask again.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from meter.gateway.detached import start_now
from meter.gateway.http import Answer, StreamingAnswer
from meter.gateway.joining.repeatable import Repeatable, RequestKey
from meter.ports import Headers

type Answering = asyncio.Task[Answer | StreamingAnswer]


class Registry(Protocol):
    """Where shared calls are found."""

    def now(self) -> float:
        """Monotonic seconds."""

    def has_left(self, call: "SharedCall") -> None:
        """A caller of the call has left."""

    def keep(self, call: "SharedCall", answer: Answer) -> bool:
        """Keep an answer that nobody waits for; false where there is no room."""

    def remove(self, call: "SharedCall") -> None:
        """The call is over."""


class SharedCall(Struct, kw_only=True, eq=False):
    """One call. `waiting` requests still want its answer; the last that left did so at `left_at`.

    `asked` and `answering` are there until the answer is kept, `answer` from when it is there; it is
    kept until `expires_at`, when the timer `expiry` drops it.
    """

    registry: Registry
    event_id: UUID
    key: RequestKey
    request_id: str | None
    started: float
    asked: Repeatable | None
    answering: Answering | None
    answer: Answer | None = None
    waiting: int = 0
    left_at: float = -math.inf
    is_over: bool = False
    is_kept: bool = False
    expires_at: float = math.inf
    expiry: asyncio.TimerHandle | None = None
    _digest: bytes | None = None
    _headers: Headers = ()
    _is_learning: bool = False

    @property
    def is_under_way(self) -> bool:
        """Whether its answer is still to come."""
        return self.answer is None and not self.is_over

    def is_open(self, now: float) -> bool:
        """Whether requests can join it."""
        return not self.is_over and now < self.expires_at

    async def is_equal(self, asked: Repeatable) -> bool:
        """Whether a request with the same key has the same headers and bytes."""
        if self.is_over or self._lasting_headers() != asked.lasting_headers():
            return False
        if self.key.digest:
            return True
        own = self._digest
        if own is None and self.asked is not None:
            own = await self.asked.learn_digest(waits=False)
        return own is not None and own == await asked.learn_digest(waits=True)

    def leave(self) -> None:
        """A request does not want the answer any more."""
        self.waiting -= 1
        self.left_at = self.registry.now()
        self.registry.has_left(self)
        self._settle()

    def end(self) -> None:
        """Be over: no request can join any more. A caller has got all of the answer, or nobody can."""
        if not self.is_over:
            self.is_over = True
            self.asked = self.answer = None
            if self.expiry is not None:
                self.expiry.cancel()
            self.registry.remove(self)

    def settle_on(self, answering: Answering) -> None:
        """Take the answer, which is there now."""
        has_failed = answering.cancelled() or answering.exception() is not None
        answer = None if has_failed else answering.result()
        if isinstance(answer, Answer):
            self.answered(answer)
        else:
            self.end()

    def answered(self, answer: Answer) -> None:
        """Take the answer."""
        if answer.is_served:
            self.answer = answer
            self._settle()
        else:
            self.end()

    async def learn_digest(self) -> None:
        """Read the body as long as it is there: the answer may have to be kept for a repeat."""
        if self.asked is None:
            return
        self._is_learning = True
        try:
            await self.asked.learn_digest(waits=False)
        finally:
            self._is_learning = False
            self._settle()

    def _settle(self) -> None:
        """Keep the answer that nobody waits for, or be over."""
        if self.answer is None or self.waiting or self._is_learning or self.is_kept:
            return
        self._digest = self.asked.digest if self.asked is not None else None
        if self._digest is None or not self.registry.keep(self, self.answer):
            self.end()
            return
        self._headers = self._lasting_headers()
        self.is_kept = True
        self.asked = self.answering = None  # they hold the request, and its token

    def _lasting_headers(self) -> Headers:
        return self._headers if self.asked is None else self.asked.lasting_headers()


class Taker:
    """One request that a shared call's answer is for, until it has it or its caller leaves.

    `left` returns once the caller has closed its connection, which `watch` waits for.
    """

    __slots__ = ("_learning", "_release", "call", "is_settled", "watch")

    def __init__(self, call: SharedCall, left: Callable[[], Awaitable[None]]) -> None:
        self.call = call
        self.is_settled = False
        call.waiting += 1
        leaving = left()
        if isinstance(leaving, asyncio.Future):
            self.watch: asyncio.Future[None] = leaving
            leaving.add_done_callback(self._told)
        else:
            self.watch = start_now(self._watch(leaving))

    def leave(self) -> None:
        """Give the answer up."""
        if not self.is_settled:
            self._settle()
            self.call.leave()

    def hand(self, answer: Answer) -> Answer:
        """The answer for this request, which is watched until it is sent or the caller leaves."""
        self._release = answer.release
        return Answer(  # which is faster than to replace
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            is_served=answer.is_served,
            delivered=self._delivered,
            release=self._sent,
        )

    async def _watch(self, left: Awaitable[None]) -> None:
        try:
            await left
        except asyncio.CancelledError:
            # Only `_settle` cancels it. A task keeps what cancelled it, with the frames that lead
            # back to the task: 45 objects of every call, which only the garbage collector would free.
            return
        self._told()

    def _told(self, _watch: object = None) -> None:
        """Its caller has left."""
        if not self.is_settled:
            self.is_settled = True
            self.call.leave()
            self._learning = start_now(self.call.learn_digest())

    def _settle(self) -> None:
        """Watch the caller no more."""
        self.is_settled = True
        self.watch.remove_done_callback(self._told)
        self.watch.cancel()

    def _delivered(self) -> None:
        if not self.is_settled:  # else it left before: the answer went nowhere
            self._settle()
            self.call.end()

    def _sent(self) -> None:
        if not self.is_settled:  # what was sent was not delivered
            self.leave()
        self._release()
