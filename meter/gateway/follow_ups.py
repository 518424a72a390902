"""Asks backends for background responses that were made here and whose usage nobody has seen.

| the backend shows                 | what follows                                                    |
|-----------------------------------|-----------------------------------------------------------------|
| the final usage                   | it is counted                                                   |
| an end without usage              | the estimate is counted                                         |
| `cancelled` without usage         | asked again, since Azure may complete it anyway; the            |
|                                   | estimate is counted at the time limit                           |
| 404, three times in a row         | it was deleted: the estimate is counted                         |
| that it runs, an error, nonsense  | asked again; at the time limit it is left to a later read       |

Nothing is counted by an estimate while the response may still be read: the read would then add
nothing. A backend that cools down is not asked, and what it answers here does not hold back calls.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from copy import replace
from dataclasses import dataclass, field
from uuid import UUID

from msgspec import Struct

from meter.errors import CallerError, ErrorKind, Overloaded, UpstreamBroken
from meter.gateway.answer.begin import WholeAnswer
from meter.gateway.answer.reading.byte_reader import ByteReader
from meter.gateway.answer.usage import NOTHING_READ, BackgroundResponse, Reading
from meter.gateway.backend import Backend
from meter.gateway.balance.demand import NO_DEMAND
from meter.gateway.balance.exchange import Attempts, Begun, ForwardLimits
from meter.gateway.balance.forward import Candidates, Forwarder
from meter.gateway.billing import Billing
from meter.gateway.limits.quota import Quota, Refusal
from meter.gateway.request.operations import Operation
from meter.ports import Dice, Headers, UpstreamRequest
from meter.usage import NO_USAGE, UsageEvent

MOST = 5_000
MOST_AT_ONCE = 4
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_SECONDS = 3_600.0
ASK_SECONDS = 10.0
JITTER = 0.25
MISSES = 3

_LOAD_KEY = "/responses/follow-up"  # circuits of its own
_READS = f"/{Operation.RESPONSES_GET}"

log = logging.getLogger(__name__)


class FollowUp(Struct, frozen=True, kw_only=True):
    """A response to ask for. `event` is the usage event of the call that made it, with the estimate.

    `billing` is how that call is billed.
    """

    response: BackgroundResponse
    event: UsageEvent
    backend: Backend
    billing: Billing
    path: str


type Settle = Callable[[FollowUp, Reading], Awaitable[None]]


def pauses(dice: Dice) -> Iterator[float]:
    """The seconds before each question: doubling up to a limit, for about an hour in all."""
    pause, waited = FIRST_PAUSE_SECONDS, 0.0
    while waited < LONGEST_SECONDS:
        seconds = pause * (1 - JITTER * dice.random())
        waited += seconds
        yield seconds
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


@dataclass(slots=True)
class FollowUps:
    """The follow-ups of one instance, of which each subject may have a share.

    `settle` counts a response by what was read, or by the estimate where that has no usage.
    """

    forwarder: Forwarder
    dice: Dice
    share_percent: int
    settle: Settle
    quota: Quota = field(init=False)
    _open: dict[str, tuple[FollowUp, asyncio.Task[None]]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    def __post_init__(self) -> None:
        self.quota = Quota(MOST, self.share_percent)
        self.forwarder = replace(
            self.forwarder, limits=_quick(self.forwarder.limits), is_for_callers=False
        )

    def limit(self, forwarding: ForwardLimits, share_percent: int) -> None:
        """Apply other bounds to what is asked from now on."""
        self.forwarder.limits = _quick(forwarding)
        self.quota.resize(MOST, share_percent)

    def check_room(self, subject: str) -> None:
        """Raise Overloaded when a further response could not be followed up."""
        probe = self.quota.holding(subject)
        refusal = probe.grow(1)
        probe.give_back()
        if refusal is not None:
            raise Overloaded(
                "Too many background responses have not ended, or their usage is not known yet. "
                "Read or await some of them, and retry.",
                retry_after_seconds=LONGEST_PAUSE_SECONDS,
                status=503 if refusal is Refusal.FULL else None,
                kind=ErrorKind.SHARE,
            )

    def start(self, follow_up: FollowUp) -> None:
        """Ask for the response until its usage is known. Calls under way may go beyond the share."""
        known = follow_up.response.id
        if known in self._open:
            return
        holding = self.quota.holding(follow_up.event.subject)
        holding.grow(1)

        def end(_task: asyncio.Task[None]) -> None:
            holding.give_back()
            self._open.pop(known, None)

        task = asyncio.create_task(self._run(follow_up))
        self._open[known] = follow_up, task
        task.add_done_callback(end)

    def stop(self, response_id: str) -> None:
        """Ask no more: the response's usage is known."""
        if response_id in self._open:
            self._open[response_id][1].cancel()

    async def ask_now(self, response_id: str) -> None:
        """Ask once more at once for a response that is followed up, before it is deleted."""
        if response_id not in self._open:
            return
        follow_up, _ = self._open[response_id]
        shown = await self._ask(follow_up)
        if shown is not None and _is_final(shown):
            self.stop(response_id)
            await self.settle(follow_up, shown)

    async def close(self) -> None:
        """Ask no more for any response. Events that are being published are not cancelled."""
        tasks = [task for _, task in self._open.values()]
        if tasks:
            log.warning("background_follow_ups_stopped count=%d", len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, follow_up: FollowUp) -> None:
        event_id = follow_up.event.id
        try:
            found = await self._await_end(follow_up)
            if found is not None:
                await self.settle(follow_up, found)
                return
            log.warning(
                "background_response_given_up event_id=%s backend=%s",
                event_id,
                follow_up.backend.name,
            )
        except Exception:
            # Last resort: nobody awaits this task.
            log.exception("background_follow_up_failed_unexpectedly event_id=%s", event_id)

    async def _await_end(self, follow_up: FollowUp) -> Reading | None:
        """What was read at the end; None where the response may still be read with its usage."""
        found, misses = None, 0
        for seconds in pauses(self.dice):
            await asyncio.sleep(seconds)
            async with self._turns:
                shown = await self._ask(follow_up)
            misses = misses + 1 if shown is None else 0
            if misses == MISSES:
                return NOTHING_READ
            if shown is not None and shown.background is not None:
                found = shown if shown.background.is_over else None
                if _is_final(shown):
                    break
        return found

    async def _ask(self, follow_up: FollowUp) -> Reading | None:
        """What the backend shows, nothing where it shows no such response; None for 404."""
        pool, now = self.forwarder.pool, self.forwarder.clock.monotonic()
        targets = [pool.target(follow_up.backend, key) for key in (_LOAD_KEY, _READS)]
        if not all(target.may_call(NO_DEMAND, now) for target in targets):
            return NOTHING_READ
        try:
            begun = await self.forwarder.forward(_Question(follow_up))
            if begun.status == 404 and isinstance(begun, WholeAnswer):
                return None
            shown = await _read(begun)
        except (CallerError, UpstreamBroken, TimeoutError):
            return NOTHING_READ
        is_it = shown.background is not None and shown.background.id == follow_up.response.id
        return shown if is_it and begun.status == 200 else NOTHING_READ


def _quick(limits: ForwardLimits) -> ForwardLimits:
    return replace(
        limits, first_byte_timeout_seconds=ASK_SECONDS, attempts_timeout_seconds=ASK_SECONDS
    )


@dataclass(slots=True)
class _Question:
    """A read of one response, as the forwarder takes it. It is no caller's call, and has no event."""

    follow_up: FollowUp
    attempts: Attempts = field(default_factory=Attempts)
    must_ask_for_usage: bool = False
    expects_events: bool = False
    answers_in_text: bool = False
    is_kept_alive: bool = False
    body_error: CallerError | None = None
    event_id: UUID = field(init=False)
    deployment: str = field(init=False)
    candidates: Candidates = field(init=False)

    def __post_init__(self) -> None:
        event, backend = self.follow_up.event, self.follow_up.backend
        self.event_id, self.deployment = event.id, event.deployment
        self.candidates = Candidates(backends=[backend], load_key=_LOAD_KEY, owner=backend.name)

    def request_for(
        self,
        backend: Backend,
        credentials: Headers,
        *,
        asks_for_usage: bool,  # noqa: ARG002  # the forwarder says it to all that it sends
    ) -> UpstreamRequest:
        """The request."""
        return UpstreamRequest(
            backend=backend.name,
            method="GET",
            url=backend.url + self.follow_up.path,
            headers=(
                ("accept", "application/json"),
                ("accept-encoding", "identity"),
                *credentials,
            ),
            body=b"",
        )

    def is_elsewhere(self, answer: WholeAnswer) -> bool:
        """Whether the backend does not have the response."""
        return answer.status == 404


async def _read(begun: Begun) -> Reading:
    """Read an answer to its end. Raises UpstreamBroken or TimeoutError."""
    if isinstance(begun, WholeAnswer):
        return begun.read_at_once() or await begun.read_in_thread()
    reader = ByteReader(reports_usage=True)
    async with begun.holds, asyncio.timeout(ASK_SECONDS):
        async for chunk in begun.chunks:
            reader.feed(chunk)
    return reader.reading


def _is_final(shown: Reading) -> bool:
    """Whether no later answer will show more."""
    response = shown.background
    if response is None or not response.is_over:
        return False
    return not response.is_cancelled or shown.usage not in {None, NO_USAGE}
