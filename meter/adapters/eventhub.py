"""`meter.ports.Hub` on Event Hubs (azure-eventhub, aio): sends events until they are acknowledged.

Every event of a subject goes to one hub partition, in the order of the calls to `send`. While a send
is under way, for any partition, the next batches gather: calls that end within a few milliseconds
share one message, a CloudEvents batch, since the SDK and the Functions host cost per message.

The SDK opens the link, renews its token and reconnects; what is ordinary is sent over it without the SDK
(`hub/link.py`). All events share one link, by partition key: to send by partition id, the SDK opens a
connection per partition, which takes half a second, and the connections of a namespace are limited.

The SDK's own retries are off (`clients.py`): they begin after 0.8 s, and errors that the service
answers, `com.microsoft:server-busy` among them, are not retried at all.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress

from msgspec import Struct, field

from meter.adapters.hub.link import HubLink
from meter.adapters.hub.message import message_of
from meter.adapters.hub.reader import partitions_of
from meter.adapters.libraries.eventhub import (
    AmqpAnnotatedMessage,
    ClientClosedError,
    EventData,
    EventHubError,
    EventHubProducerClient,
)
from meter.adapters.partition_key import keys_by_partition
from meter.bucket import hub_partition_of
from meter.errors import PublishFailed
from meter.ports import MAX_SEND_BYTES, Clock, Dice, HubPartition
from meter.publishing.circuit import backoff
from meter.waiting.alarms import Alarms
from meter.waiting.waking import Acknowledgement

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.4
# The SDK then replaces its connection, which may be dead.
SEND_TIMEOUT_SECONDS = 10.0
REPLACE_SECONDS = 10.0  # cut short, it would keep the dead connection
CONNECT_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 2.0
# The service ends a connection that is silent for 240 s, load balancers one of that age.
KEEP_ALIVE_SECONDS = 60.0
# Of a send that does not end: the SDK then sees which of the others can be sent.
TURN_SECONDS = 0.2
# Of the loop, at least: a late one takes the time itself, and the SDK would take many turns more.
SEND_TURNS = 8
MOST_LINGER_SECONDS = 0.1
MAX_MESSAGE_BYTES = 60_000  # Event Hubs bills a message of up to 64 KB as one
# Errors that retrying will not fix, without the vendor's prefix.
_DENIED = {"unauthorized-access", "not-allowed", "not-implemented", "publisher-revoked-error"}
_GONE = {"not-found", "resource-deleted", "entity-disabled"}
_INVALID = {"invalid-field", "decode-error", "argument-error", "argument-out-of-range"}
_TOO_LARGE = {"link:message-size-exceeded", "resource-limit-exceeded"}
_FINAL_CONDITIONS = _DENIED | _GONE | _INVALID | _TOO_LARGE

log = logging.getLogger(__name__)


class _Waiting(Struct, kw_only=True):
    """Events that one caller waits for, until a moment on the clock."""

    events: Sequence[bytes]
    until: float
    acknowledged: Acknowledgement


class _Lane(Struct):
    """Events waiting for one hub partition, oldest first."""

    waiting: list[_Waiting] = field(default_factory=list)
    is_sending: bool = False
    failures: int = 0

    def take(self) -> list[_Waiting]:
        """The events for the next send, without those whose callers stopped waiting."""
        # A caller that stopped waiting has stored its event elsewhere.
        live = [each for each in self.waiting if not each.acknowledged.done()]
        size = count = 0
        for each in live:
            size += sum(map(len, each.events))
            if count and size > MAX_SEND_BYTES:
                break
            count += 1
        self.waiting = live[count:]
        return live[:count]


class _Refusal(Struct, frozen=True):
    """Why a send failed, and whether a retry would fail for the same reason."""

    reason: str
    is_final: bool


class EventHubSender:
    """Gathers events per hub partition and sends them. One event loop owns it.

    A failed send is retried, after a pause that doubles, until `patience_seconds` after the call to
    `send`. Events that arrived meanwhile stay behind those that are retried. Each send first gathers for
    `linger_seconds` per partition that is sent to, where no call waits for it.
    """

    def __init__(
        self,
        producer: EventHubProducerClient,
        *,
        clock: Clock,
        dice: Dice,
        patience_seconds: float,
        send_timeout_seconds: float = SEND_TIMEOUT_SECONDS,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        self._producer = producer
        self._send_timeout_seconds = send_timeout_seconds
        self._clock = clock
        self._dice = dice
        self._patience_seconds = patience_seconds
        self._keys: Sequence[str] = ()
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: asyncio.Task[None] | None = None
        self.linger_seconds = 0.0
        self._free = asyncio.Lock()
        self._deadlines = Alarms()
        self._limit_seconds = send_timeout_seconds + REPLACE_SECONDS
        self._link = HubLink(
            producer,
            deadlines=self._deadlines,
            send_timeout_seconds=send_timeout_seconds,
            limit_seconds=self._limit_seconds,
        )
        self._keep_alive_seconds = keep_alive_seconds
        self._next_keep_alive: asyncio.TimerHandle | None = None

    async def warm(self) -> None:
        """Connect and learn the hub's partitions. Raises PublishFailed."""
        if self._keys:
            return
        if self._warming is None or self._warming.done():
            self._warming = asyncio.create_task(self._connect())
        await asyncio.shield(self._warming)

    async def ping(self) -> None:
        """Send the hub the cheapest request there is. Raises PublishFailed."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._producer.get_partition_ids()
        except (EventHubError, TimeoutError, OSError, ValueError) as exc:
            raise PublishFailed(f"the hub does not answer: {_refusal(exc).reason}") from exc

    async def partitions(self) -> Sequence[HubPartition]:
        """The hub's partitions, as they are now. Raises HubUnavailable."""
        return await partitions_of(self._producer, answer_seconds=CONNECT_TIMEOUT_SECONDS)

    def send(self, subject: str, events: Sequence[bytes]) -> Awaitable[None]:
        """Ends when the hub has acknowledged the events; a future on a hub that is known.

        Raises PublishFailed.
        """
        until = self._clock.monotonic() + self._patience_seconds
        return (
            self._hand(subject, events, until)
            if self._keys
            else self._learn_and_send(subject, events, until)
        )

    async def _learn_and_send(self, subject: str, events: Sequence[bytes], until: float) -> None:
        await self._warm_until(until)
        await self._hand(subject, events, until)

    def _hand(self, subject: str, events: Sequence[bytes], until: float) -> asyncio.Future[None]:
        """Have the events sent with what gathers for their partition."""
        key = self._keys[hub_partition_of(subject, len(self._keys))]
        loop = asyncio.get_running_loop()
        acknowledged = Acknowledgement(loop=loop)
        lane = self._lanes.setdefault(key, _Lane())
        lane.waiting.append(_Waiting(events=events, until=until, acknowledged=acknowledged))
        if not lane.is_sending:
            lane.is_sending = True
            task = asyncio.Task(self._send_lane(key, lane), loop=loop, eager_start=True)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return acknowledged

    async def close(self) -> None:
        """Send pending events, then disconnect; both in bounded time."""
        if self._next_keep_alive is not None:
            self._next_keep_alive.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_SECONDS)
            for task in stuck:
                task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._producer.close()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                # Creating a batch opens the link, which would otherwise slow the first send.
                partitions, _ = await asyncio.gather(
                    self._producer.get_partition_ids(), self._producer.create_batch()
                )
                self._keys = keys_by_partition(len(partitions))
                self._keep_alive_later()
        except (EventHubError, TimeoutError, OSError, ValueError) as exc:
            text = f"the hub's partitions are not known: {_refusal(exc).reason}"
            raise PublishFailed(text) from exc

    def _keep_alive_later(self) -> None:
        # A timer, not a task: who waits for all tasks to end must not wait for this.
        loop = asyncio.get_running_loop()
        self._next_keep_alive = loop.call_later(self._keep_alive_seconds, self._keep_alive_now)

    def _keep_alive_now(self) -> None:
        """Use the link while no call does: the first call after a pause must not reconnect."""
        self._keep_alive_later()
        if not any(lane.is_sending for lane in self._lanes.values()):
            task = asyncio.create_task(self._link.keep_alive())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _warm_until(self, until: float) -> None:
        failures = 0
        while not self._keys:
            try:
                await self.warm()
            except PublishFailed:
                pause = backoff(failures, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self._dice)
                if self._clock.monotonic() + pause >= until:
                    raise
                failures += 1
                await asyncio.sleep(pause)

    async def _send_lane(self, key: str, lane: _Lane) -> None:
        while lane.waiting or self.linger_seconds:
            # Calls that end in this turn of the loop share a send, at least. Where a call waits for it,
            # waiting longer costs more than it saves.
            await asyncio.sleep(0)
            if self.linger_seconds:
                await asyncio.sleep(self._gathering_seconds())
            batch, refusal = await self._send_next(key, lane)
            if not batch:
                break
            if refusal is None:
                lane.failures = 0
                for each in batch:
                    each.acknowledged.accept()
            else:
                await self._retry_or_fail(lane, batch, refusal)
        lane.failures = 0
        lane.is_sending = False

    def _gathering_seconds(self) -> float:
        """How long a send gathers: longer the more partitions are in use.

        A send costs nearly as much for one event as for fifty.
        """
        sending = sum(lane.is_sending for lane in self._lanes.values())
        return min(self.linger_seconds * sending, MOST_LINGER_SECONDS)

    async def _send_next(self, key: str, lane: _Lane) -> tuple[Sequence[_Waiting], _Refusal | None]:
        """Take what has gathered by the time that the link is free, and send it.

        The SDK sends one batch at a time. What was taken before it can be sent would gather no more.
        """
        is_ours = await self._turn()
        try:
            batch = lane.take()
            return batch, await self._send_batch(key, batch) if batch else None
        finally:
            if is_ours:
                self._free.release()

    async def _turn(self) -> bool:
        if not self._free.locked():  # nearly always
            return await self._free.acquire()
        until = asyncio.get_running_loop().time() + TURN_SECONDS
        try:
            with self._deadlines.limit(until, SEND_TURNS):
                return await self._free.acquire()
        except TimeoutError:
            return False

    async def _send_batch(self, key: str, batch: Sequence[_Waiting]) -> _Refusal | None:
        parts = _packed([event for each in batch for event in each.events])
        try:
            if len(parts) > 1 or not await self._link.send(parts[0], key):
                # The SDK's own timeout makes it reconnect; ours is for an SDK that does not return.
                until = asyncio.get_running_loop().time() + self._limit_seconds
                with self._deadlines.limit(until):
                    await self._send_parts(parts, key)
        except Exception as exc:  # whatever the SDK raises, the waiting calls must get it
            return _refusal(exc)
        return None

    async def _send_parts(self, parts: Sequence[Sequence[bytes]], key: str) -> None:
        """Have the SDK send messages."""
        seconds = self._send_timeout_seconds
        if len(parts) == 1 and sum(map(len, parts[0])) <= MAX_MESSAGE_BYTES:
            # Alone, a message costs 0.7 of what it does in the SDK's batch, which encodes it twice more to
            # see whether it fits.
            await self._producer.send_event(
                message_of(parts[0]), partition_key=key, timeout=seconds
            )
            return
        messages: list[EventData | AmqpAnnotatedMessage] = [message_of(part) for part in parts]
        await self._producer.send_batch(messages, partition_key=key, timeout=seconds)

    async def _retry_or_fail(
        self, lane: _Lane, batch: Sequence[_Waiting], refusal: _Refusal
    ) -> None:
        pause = backoff(lane.failures, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self._dice)
        lane.failures += 1
        next_try = self._clock.monotonic() + pause
        again: list[_Waiting] = []
        for each in batch:
            if each.acknowledged.done():
                continue
            if refusal.is_final or next_try >= each.until:
                text = f"the hub did not acknowledge the events: {refusal.reason}"
                each.acknowledged.set_exception(PublishFailed(text))
            else:
                again.append(each)
        lane.waiting[:0] = again  # in front, so that a subject's events stay in order
        if lane.waiting:
            await asyncio.sleep(pause)


def _refusal(exc: Exception) -> _Refusal:
    condition = getattr(exc, "error", None) or ""
    name = type(exc).__name__
    return _Refusal(
        reason=f"{name} {condition}".rstrip(),
        is_final=condition in _FINAL_CONDITIONS or isinstance(exc, ClientClosedError | ValueError),
    )


def _packed(events: Iterable[bytes]) -> list[list[bytes]]:
    """Split into messages of at most `MAX_MESSAGE_BYTES`, or of one larger event."""
    messages: list[list[bytes]] = []
    size = MAX_MESSAGE_BYTES
    for event in events:
        size += len(event) + 1  # and the comma or bracket before it
        if size + 1 > MAX_MESSAGE_BYTES:
            messages.append([])
            size = len(event) + 1
        messages[-1].append(event)
    return messages
