"""Asks one backend for one call, and says what came of it: an answer for the caller, or a failover.

Every request is an attempt of the call, however it ends. A backend that refuses the option which
the gateway added is asked again without it.
"""

import math
from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from msgspec import Struct, field
from msgspec.structs import replace

from meter.errors import UpstreamTimeout
from meter.gateway.answer.begin import (
    MAX_ERROR_BYTES,
    StreamedAnswer,
    WholeAnswer,
    begin_answer,
    read_error,
)
from meter.gateway.answer.stated_error import StatedError, names_the_option
from meter.gateway.backend import Backend
from meter.gateway.balance.verdict import Failover, judge
from meter.ports import (
    BackendCredentials,
    Clock,
    Headers,
    Upstream,
    UpstreamAnswer,
    UpstreamRequest,
)
from meter.usage import Attempt
from meter.waiting.bounded import within


class ForwardLimits(Struct, frozen=True, kw_only=True):
    """Bounds on waiting: for one backend's first byte, and for an answer of any backend; and on the
    answer that is buffered whole.

    `attempts_timeout_seconds` does not hold for a call whose caller is kept alive meanwhile.
    """

    first_byte_timeout_seconds: float
    attempts_timeout_seconds: float
    max_buffered_bytes: int


class Attempts(Struct):
    """What has been tried for one call; kept also when the call fails.

    No answer is waited for after `give_up_at` (monotonic seconds). `may_spill`: it went to the backends
    in the order of their priorities, not to the one that stores what it refers to.
    """

    made: list[Attempt] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    last_backend: Backend | None = None
    may_spill: bool = True
    give_up_at: float = math.inf


class Asking(Protocol):
    """What asking a backend needs of a call (`gateway/call.py`)."""

    attempts: Attempts
    deployment: str

    @property
    def must_ask_for_usage(self) -> bool:
        """Whether the gateway adds the option that makes a stream report its usage."""

    @property
    def expects_events(self) -> bool:
        """Whether the caller asked for an event stream."""

    @property
    def answers_in_text(self) -> bool:
        """Whether the answer may be a text, which is then the caller's own words."""

    @property
    def is_kept_alive(self) -> bool:
        """Whether the caller gets comments while it waits, so that its connection is not cut."""

    def request_for(
        self, backend: Backend, credentials: Headers, *, asks_for_usage: bool
    ) -> UpstreamRequest:
        """The request as one backend takes it."""

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        """Whether the answer says that this backend does not have what the call refers to."""


type Begun = WholeAnswer | StreamedAnswer


class Exchange(Struct, frozen=True, kw_only=True):
    """One backend's turn in one call."""

    call: Asking
    backend: Backend
    upstream: Upstream
    credentials: BackendCredentials
    clock: Clock
    limits: ForwardLimits

    def run(self) -> Awaitable[Begun | Failover]:
        """What the caller gets, or why the next backend is tried. Raises UpstreamError."""
        if self.call.must_ask_for_usage:
            return self._asking_for_usage()
        return self._attempt(asks_for_usage=False)

    async def _asking_for_usage(self) -> Begun | Failover:
        begun = await self._attempt(asks_for_usage=True)
        if _refuses_what_was_added(begun):
            # Old api-versions and `data_sources` do.
            if isinstance(begun, StreamedAnswer):
                await begun.holds.close()
            begun = await self._attempt(asks_for_usage=False)
            if isinstance(begun, StreamedAnswer):
                begun = replace(begun, is_usage_refused=True)
        elif isinstance(begun, StreamedAnswer):
            begun = replace(begun, asked_for_usage=True)
        return begun

    async def _attempt(self, *, asks_for_usage: bool) -> Begun | Failover:
        """One request and the beginning of its answer; an attempt however it ends."""
        started, status, name = self.clock.monotonic(), None, self.backend.name
        try:
            seconds = self._patience(started)
            credentials = self.credentials.at_hand(name)
            if credentials is None:
                credentials = await self._credentials(seconds)
                seconds = self._patience(self.clock.monotonic())
            request = self.call.request_for(
                self.backend, credentials, asks_for_usage=asks_for_usage
            )
            answer = await self.upstream.send(request, first_byte_timeout_seconds=seconds)
            begun: Begun | None = None
            outcome: Begun | Failover | None = None
            try:
                if not 200 <= answer.status < 300:
                    outcome = await self._failover(answer)
                if outcome is None:
                    begun = await self._beginning(answer, asks_for_usage=asks_for_usage)
                    outcome = begun if begun.error is None else self._judged(begun, begun.error)
            except TimeoutError as exc:
                raise UpstreamTimeout(name) from exc
            finally:
                if not isinstance(begun, StreamedAnswer):
                    await answer.close()
                elif outcome is not begun:
                    await begun.holds.close()
            status = outcome.status
        finally:
            milliseconds = round((self.clock.monotonic() - started) * 1000)
            self.call.attempts.made.append(
                Attempt(backend=name, status=status, duration_ms=milliseconds)
            )
        if isinstance(outcome, Failover):
            return _without_secrets(outcome, self.backend, credentials)
        return outcome

    async def _credentials(self, seconds: float) -> Headers:
        try:
            return await within(seconds, self.credentials.headers_for(self.backend.name))
        except TimeoutError as exc:
            raise UpstreamTimeout(self.backend.name) from exc

    async def _failover(self, answer: UpstreamAnswer) -> Failover | None:
        """Why the next backend is tried, where the answer's status says that one is."""
        now = self.clock.now()
        failover = judge(answer.status, answer.headers, now)
        if failover is None:
            return None
        error = await read_error(answer)
        failover = self._judge(answer.status, answer.headers, now, error) or failover
        refuses = error is not None and error.refuses_an_option(answer.status)
        return replace(failover, refuses_option=refuses)

    def _judged(self, begun: Begun, error: StatedError) -> Begun | Failover:
        """What comes of an answer that states an error."""
        if isinstance(begun, WholeAnswer) and self.call.is_elsewhere(begun):
            return begun
        status = begun.status if begun.status >= 400 else error.likely_status
        failover = self._judge(status, begun.headers, self.clock.now(), error)
        if failover is None and isinstance(begun, StreamedAnswer):
            refusal = begun.as_refusal(error, status)
            if self.call.is_elsewhere(refusal):
                return refusal
        return failover or begun

    def _judge(
        self, status: int, headers: Headers, now: datetime, error: StatedError | None
    ) -> Failover | None:
        own_name = self.backend.own_name(self.call.deployment)
        return judge(status, headers, now, error, own_name=own_name)

    def _beginning(self, answer: UpstreamAnswer, *, asks_for_usage: bool) -> Awaitable[Begun]:
        beginning = begin_answer(
            self.backend,
            answer,
            clock=self.clock,
            max_buffered_bytes=self.limits.max_buffered_bytes,
            expects_events=self.call.expects_events,
            may_be_text=self.call.answers_in_text,
            asked_for_usage=asks_for_usage,
        )
        # A stream may think for long after its head, while its caller is kept alive.
        return within(None if self.call.is_kept_alive else self._patience_now, beginning)

    def _patience_now(self) -> float:
        return self._patience(self.clock.monotonic())

    def _patience(self, now: float) -> float:
        left = self.call.attempts.give_up_at - now
        return max(0.0, min(self.limits.first_byte_timeout_seconds, left))


def _refuses_what_was_added(begun: Begun | Failover) -> bool:
    if isinstance(begun, Failover):
        return begun.refuses_option
    status = begun.status
    if begun.error is not None:
        status = status if status >= 400 else begun.error.likely_status
        if begun.error.refuses_an_option(status):
            return True
    if isinstance(begun, StreamedAnswer) or not 400 <= begun.status < 500:
        return False
    return names_the_option(begun.content[:MAX_ERROR_BYTES].decode(errors="replace"))


def _without_secrets(failover: Failover, backend: Backend, credentials: Headers) -> Failover:
    """The failover without its words, where they tell the caller how the gateway gets in."""
    host = urlsplit(backend.url).hostname
    secrets = [value.rpartition(" ")[2] for _, value in credentials] + ([host] if host else [])
    error = failover.error
    if error is None or not (error.names_an_account or any(map(error.mentions, secrets))):
        return failover
    return replace(failover, error=None)
