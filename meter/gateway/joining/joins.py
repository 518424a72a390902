"""Finds the call that a request repeats, and gives the request its answer.

| the request                                             | joins                                    |
|---------------------------------------------------------|------------------------------------------|
| has a call's own client request id, or a retry count    | an equal call                            |
| has neither                                             | one that was left in the last 10 s       |
| has neither, and an equal call is under way for 20 s    | that, if it turns out left within 0.25 s |
| has no equal                                            | none: it is a call of its own            |

The Functions host tells of a caller's leaving up to 60 ms late, so a client that gives up and asks again
at once is here before that news. Only calls that are old enough for a client to give up are worth the
wait.
"""

import asyncio
import logging
from collections import defaultdict
from copy import replace
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import Struct

from meter.errors import CallerError, ErrorKind
from meter.gateway.headers import REQUEST_ID
from meter.gateway.http import Answer, Arrival, StreamingAnswer, error_answer
from meter.gateway.joining.group import Group
from meter.gateway.joining.kept import Kept, kept_bytes
from meter.gateway.joining.repeatable import Repeatable as Repeatable
from meter.gateway.joining.repeatable import RequestKey, repeatable_of
from meter.gateway.joining.shared import Answering, SharedCall, Taker
from meter.gateway.limits.quota import Holding, Quota
from meter.gateway.request.prepare import Payload, asks_for_events
from meter.gateway.request.route import Route
from meter.ports import Clock, Headers
from meter.waiting.waking import result_of

NEWS_SECONDS = 0.25
KEPT_SECONDS = 120.0
JOINED = "x-meter-joined"

log = logging.getLogger(__name__)

_NOT_SHARED = CallerError(
    "The call that this request repeats has an answer that cannot be shared. Please retry after 1 second.",
    status=503,
    code="ServiceUnavailable",
    kind=ErrorKind.OVERLOADED,
    retry_after_seconds=1,
)


class JoinLimits(Struct, frozen=True, kw_only=True):
    """How many requests of one instance may wait for other calls' answers, how many bytes of answers it
    keeps, and what share of both one subject may have.
    """

    most_joined: int
    kept_bytes: int
    subject_share_percent: int


@dataclass(slots=True, kw_only=True)
class Joins:
    """The calls of one instance that can be joined; with `limits` None there are none."""

    clock: Clock
    limits: JoinLimits | None
    joined: Quota = field(init=False)
    kept: Kept[SharedCall] = field(init=False)
    _groups: defaultdict[RequestKey, Group] = field(default_factory=partial(defaultdict, Group))

    def __post_init__(self) -> None:
        limits = self.limits or JoinLimits(most_joined=0, kept_bytes=0, subject_share_percent=100)
        self.joined = Quota(limits.most_joined, limits.subject_share_percent)
        self.kept = Kept(Quota(limits.kept_bytes, limits.subject_share_percent))

    def limit(self, limits: JoinLimits) -> None:
        """Apply other bounds to what joins and is kept from now on; nothing where there are none."""
        if self.limits is not None:
            self.limits = limits
            self.joined.resize(limits.most_joined, limits.subject_share_percent)
            self.kept.quota.resize(limits.kept_bytes, limits.subject_share_percent)

    def repeatable(self, arrival: Arrival, route: Route, body: Payload) -> Repeatable | None:
        """What a request asks for, if it can join a call, or be joined."""
        return None if self.limits is None else repeatable_of(arrival, route, body)

    @property
    def is_empty(self) -> bool:
        """Whether there is no call to join, and nothing is kept."""
        return not self._groups and not self.kept.quota.used

    def has_like(self, asked: Repeatable | None) -> bool:
        """Whether there is a call for `find` to look at: one with the same key, as few requests have."""
        return asked is not None and asked.key in self._groups

    async def find(self, asked: Repeatable | None) -> "Joiner | None":
        """The request as one that has joined the call that it repeats; None where there is none.

        Raises Overloaded where too many have joined.
        """
        group = None if asked is None else self._groups.get(asked.key)
        if asked is None or group is None:
            return None
        call = await self._joinable(group, asked) or await self._left_soon(group, asked)
        return None if call is None else self._join(call, asked)

    async def own(self, asked: Repeatable | None, answering: Answering) -> Answer | StreamingAnswer:
        """The answer of a call of its own, which others may join meanwhile."""
        if asked is None:
            return await result_of(answering)
        call = self._share(asked, answering)
        taker = Taker(call, asked.arrival.request.left)
        try:
            answer = await result_of(answering)
        except BaseException:
            answering.add_done_callback(call.settle_on)  # without this request, it runs on
            taker.leave()
            raise
        if isinstance(answer, Answer):
            call.answered(answer)
            return taker.hand(answer)
        call.end()
        taker.leave()
        return answer

    def now(self) -> float:
        """As `Registry` says; the other methods, too."""
        return self.clock.monotonic()

    def has_left(self, call: SharedCall) -> None:
        """A caller of the call has left."""
        if (group := self._groups.get(call.key)) is not None and call in group.calls:
            group.left_at = call.left_at
            group.tell()

    def keep(self, call: SharedCall, answer: Answer) -> bool:
        """Keep an answer for `KEPT_SECONDS`; the subject's oldest ones make room for it."""
        given_up = self.kept.make_room(call, call.key.subject, kept_bytes(answer))
        if given_up is None:
            return False
        for each in given_up:
            each.end()
        call.expires_at = self.now() + KEPT_SECONDS
        call.expiry = asyncio.get_running_loop().call_later(KEPT_SECONDS, call.end)
        return True

    def remove(self, call: SharedCall) -> None:
        """The call is over."""
        if call.is_kept:
            self.kept.drop(call, call.key.subject)
        group = self._groups[call.key]
        group.remove(call)
        if not group.calls:
            del self._groups[call.key]

    def _share(self, asked: Repeatable, answering: Answering) -> SharedCall:
        call = SharedCall(
            registry=self,
            event_id=asked.arrival.event_id,
            key=asked.key,
            request_id=asked.request_id,
            started=self.clock.monotonic(),
            asked=asked,
            answering=answering,
        )
        self._groups[asked.key].add(call)
        return call

    async def _joinable(self, group: Group, asked: Repeatable) -> SharedCall | None:
        for call in group.candidates(asked, self.now()):
            is_equal = await call.is_equal(asked)
            if asks_for_events(asked.body):
                return None  # a form that has arrived only now
            if is_equal and call.is_open(self.now()):
                return call
        return None

    async def _left_soon(self, group: Group, asked: Repeatable) -> SharedCall | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + NEWS_SECONDS
        while await self._has_old_equal(group, asked) and loop.time() < until:
            await group.news(until - loop.time())
            if (call := await self._joinable(group, asked)) is not None:
                return call
        return None

    async def _has_old_equal(self, group: Group, asked: Repeatable) -> bool:
        for call in group.old(self.now()):
            if await call.is_equal(asked):
                return True
        return False

    def _join(self, call: SharedCall, asked: Repeatable) -> "Joiner":
        place = self.joined.holding(call.key.subject)
        if (refusal := place.grow(1)) is not None:
            raise refusal.error(
                share="You wait for as many answers of your earlier calls as one caller may on this "
                "instance.",
                full="This instance is at its limit of requests that wait for earlier calls.",
            )
        return Joiner(
            asked=asked,
            taker=Taker(call, asked.arrival.request.left),
            place=place,
            clock=self.clock,
            joined_at=self.now(),
        )


class Joiner(Struct, kw_only=True):
    """A request that has joined a call. `place` is what it holds of the bound on their number."""

    asked: Repeatable
    taker: Taker
    place: Holding
    clock: Clock
    joined_at: float

    async def answer(self) -> Answer:
        """The call's answer, as soon as it is there; it makes no event. Must be called at once."""
        call = self.taker.call
        answer = call.answer
        if answer is None:
            assert call.answering is not None
            answer = await self._awaited(call.answering)
        self._log(answer)
        own = replace(answer, headers=self._headers(answer), release=self.place.give_back)
        return self.taker.hand(own)

    async def _awaited(self, answering: Answering) -> Answer:
        either: set[asyncio.Future[Any]] = {answering, self.taker.watch}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.taker.leave()
            self.place.give_back()
            raise
        is_there = answering.done() and not answering.cancelled()
        if is_there and answering.exception() is None:
            answer = answering.result()
            if isinstance(answer, Answer):
                return answer
        return error_answer(_NOT_SHARED)  # or nobody is there to read it

    def _headers(self, answer: Answer) -> Headers:
        """Those of the answer, with the request's own id in place of the call's."""
        own = self.asked.request_id
        kept = [pair for pair in answer.headers if pair[0] != REQUEST_ID]
        if len(kept) < len(answer.headers) and own is not None:
            kept.append((REQUEST_ID, own))
        return (*kept, (JOINED, str(self.taker.call.event_id)))

    def _log(self, answer: Answer) -> None:
        log.info(
            "call_joined event_id=%s joined=%s outcome=%s waited_ms=%d",
            self.asked.arrival.event_id,
            self.taker.call.event_id,
            "left" if self.taker.is_settled else f"status_{answer.status}",
            round((self.clock.monotonic() - self.joined_at) * 1000),
        )
