"""`meter.ports.UsageSink`: the hub first, then the outbox, then the log.

| the hub                     | the outbox | the event is in        | the call waits for           |
|-----------------------------|------------|------------------------|------------------------------|
| acknowledges in time        |            | the hub                | the hub                      |
| refuses, or is slow         | stores it  | the outbox             | the hub, then the outbox     |
| circuit open                | stores it  | the outbox             | the outbox                   |
| circuit open, a probe       | stores it  | the outbox and the hub | the outbox                   |
| circuit open, acknowledges  | fails      | the hub                | the outbox, then the hub     |
| does not acknowledge        | fails      | the log, in full       | both                         |
"""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from copy import replace
from typing import Any

from msgspec import Struct

from meter.ports import Clock, Dice, Hub, Outbox
from meter.publishing.circuit import Admission, HubCircuit
from meter.publishing.loglines import without_apostrophes
from meter.usage import UsageEvent, encode_event
from meter.waiting.alarms import Alarms
from meter.waiting.waking import Acknowledgement, Waker

OUTBOX_PATIENCE = 5.0
MAX_PENDING = 10_000  # bounds memory while both the hub and storage are down
MAX_UNAWAITED = 1_000
MAX_KEPT_TOGETHER = 100
MAX_WRITERS = 4
# Of the event loop. With 512 connections on one core it turned only every 0.1 to 0.4 s: the hub answered
# within one turn, but a send takes several, behind those to other partitions. By the clock alone hundreds of
# events were late through our own fault, and the circuit opened. An idle loop turns so often in 0.1 ms.
HUB_TURNS = 16
# Shares of the closing time for the hub and for the outbox; the log gets the rest.
HUB_SHARE, OUTBOX_SHARE = 0.25, 0.5

log = logging.getLogger(__name__)


class _Unkept(Struct, frozen=True):
    """An event on its way to the outbox."""

    event: UsageEvent
    kept: asyncio.Future[None]


class _Sending(Struct):
    """An event on its way to the hub. `end` gives up, at `until`; `safe` is what its call waits for."""

    event: UsageEvent
    sending: asyncio.Future[None]
    safe: Waker | None
    until: float = 0.0
    alarm: int = 0
    is_late: bool = False

    def end(self) -> None:
        self.is_late = True
        self.sending.cancel()


class PublishingSink:
    """Publishes events. Never raises, and never drops an event without a line in the log.

    At most `MAX_PENDING` events are pending; further ones go to the log at once. Background
    publishing makes no call wait until `MAX_UNAWAITED` events are pending.
    """

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        *,
        clock: Clock,
        dice: Dice,
        acknowledge_timeout_seconds: float,
        waits_for_acknowledgement: bool,
    ) -> None:
        self._hub = hub
        self._outbox = outbox
        self._circuit = HubCircuit(clock, dice)
        self._hub_seconds = acknowledge_timeout_seconds
        # Long enough for a retry of a slow write; the caller waits meanwhile.
        self._outbox_seconds = OUTBOX_PATIENCE * acknowledge_timeout_seconds
        self._waits = waits_for_acknowledgement
        self._tasks: set[asyncio.Future[Any]] = set()
        self._windows: set[asyncio.Timeout] = set()
        self._sendings: dict[asyncio.Future[None], _Sending] = {}
        self._deadlines = Alarms()
        self._unkept: list[_Unkept] = []
        self._writers = 0
        self.unpublished = 0  # events that only the log has

    async def publish(self, event: UsageEvent) -> None:
        """Return when the event is safe; at once when publishing runs in the background."""
        if len(self._tasks) >= MAX_PENDING:
            self._log_in_full(event)
            return
        waits = self._waits or len(self._tasks) >= MAX_UNAWAITED
        # A caller that disconnects ends its own wait alone.
        safe = Waker(asyncio.get_running_loop()) if waits else None
        admission = self._circuit.admit()
        if admission is not Admission.TRY or not self._hand_over(event, safe):
            self._start_publishing(event, self._without_hub(event, admission), safe)
        if safe is not None:
            await safe

    def hurry(self, seconds: float) -> None:
        """Have pending and later events safe or in the log within that time."""
        loop = asyncio.get_running_loop()
        self._hub_seconds = min(self._hub_seconds, HUB_SHARE * seconds)
        self._outbox_seconds = min(self._outbox_seconds, OUTBOX_SHARE * seconds)
        hurried = loop.time() + self._hub_seconds
        for each in self._sendings.values():
            if each.until > hurried:
                self._deadlines.clear(each.alarm)
                each.until, each.alarm = hurried, self._deadlines.set(hurried, each.end)
        for window in self._windows:
            if not window.expired():
                window.reschedule(min(window.when() or hurried, hurried))

    async def close(self, seconds: float) -> None:
        """Return when every event is safe or, after that time, in the log."""
        self.hurry(seconds)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._tasks and loop.time() < end:
            await asyncio.wait(self._tasks, timeout=end - loop.time())
        for _ in range(2):  # an event that the hub did not take just then goes on to the outbox
            late = tuple(self._tasks)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @property
    def pending(self) -> int:
        """How much is under way."""
        return len(self._tasks)

    @property
    def is_hub_circuit_open(self) -> bool:
        """Whether events skip the hub."""
        return self._circuit.is_open

    def _log_in_full(self, event: UsageEvent) -> None:
        self.unpublished += 1
        _log_in_full(event)

    def _start[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # One that is cancelled before its first step would never run, and the event be lost.
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start_publishing(
        self, event: UsageEvent, work: Coroutine[Any, Any, bool], safe: Waker | None
    ) -> None:
        task = self._start(self._publish(event, work))
        if safe is not None:
            task.add_done_callback(lambda _: safe.wake())

    def _hand_over(self, event: UsageEvent, safe: Waker | None) -> bool:
        """Send the event where the circuit is closed: without a task or a timer of its own. False for one
        that cannot be written.
        """
        try:
            sending = self._hub.send(event.subject, [encode_event(event)])
        except Exception:
            return False  # what is tried next logs it
        loop = asyncio.get_running_loop()
        if not isinstance(sending, asyncio.Future):
            sending = asyncio.Task(_ended(sending), loop=loop, eager_start=True)
        each = _Sending(event, sending, safe, loop.time() + self._hub_seconds)
        each.alarm = self._deadlines.set(each.until, each.end, HUB_TURNS)
        self._tasks.add(sending)
        self._sendings[sending] = each
        if isinstance(sending, Acknowledgement):
            sending.tell(self._sent)
        else:
            sending.add_done_callback(self._sent)
        return True

    def _sent(self, sending: asyncio.Future[None]) -> None:
        """The hub has acknowledged the event, or it goes to the outbox."""
        self._tasks.discard(sending)
        each = self._sendings.pop(sending)
        self._deadlines.clear(each.alarm)
        fault = TimeoutError() if sending.cancelled() else sending.exception()
        if fault is None:
            self._circuit.acknowledged()
        elif sending.cancelled() and not each.is_late:
            self._log_in_full(each.event)  # the process ends
        else:
            kept = self._kept_after(self._failed(fault), each.event)
            self._start_publishing(each.event, kept, each.safe)
            return
        if each.safe is not None:
            each.safe.wake()  # the call runs on here

    async def _publish(self, event: UsageEvent, work: Coroutine[Any, Any, bool]) -> None:
        """Do the work that makes the event safe, or log it."""
        is_safe = False
        try:
            is_safe = await work
        except asyncio.CancelledError:
            pass  # the process ends: only the log line remains of the event
        except Exception:
            # An unforeseen error must not drop the event.
            log.exception("publishing_failed_unexpectedly")
        if not is_safe:
            self._log_in_full(event)

    async def _without_hub(self, event: UsageEvent, admission: Admission) -> bool:
        """Whether the outbox has stored the event, or else the hub, whose circuit is open, has taken it."""
        encoded = encode_event(event)
        probe: asyncio.Task[str | None] | None = None
        if admission is Admission.PROBE:
            # Beside the outbox write: this call must not wait for a hub that may still be down.
            probe = self._start(self._send(event.subject, encoded, is_probe=True))
        if await self._keep(event):
            return True
        return await (probe or self._send(event.subject, encoded)) is None

    async def _kept_after(self, refusal: str, event: UsageEvent) -> bool:
        log.warning("event_sent_to_outbox reason=%s", refusal)
        return await self._keep(event)

    async def _send(self, subject: str, encoded: bytes, *, is_probe: bool = False) -> str | None:
        """Why the hub did not acknowledge the event; None if it did."""
        window = asyncio.timeout(self._hub_seconds)
        self._windows.add(window)
        try:
            async with window:
                await self._hub.send(subject, [encoded])
        except Exception as exc:
            return self._failed(exc, is_probe=is_probe)
        finally:
            self._windows.discard(window)
        self._circuit.acknowledged()
        return None

    def _failed(self, fault: BaseException, *, is_probe: bool = False) -> str:
        """Why the hub did not acknowledge an event, which the circuit is told."""
        reason = str(fault) or "no answer in time"
        self._circuit.failed(reason, is_probe=is_probe)
        return reason

    async def _keep(self, event: UsageEvent) -> bool:
        """Whether the outbox has stored the event."""
        kept = asyncio.get_running_loop().create_future()
        self._unkept.append(_Unkept(event, kept))
        if self._writers < MAX_WRITERS:
            self._writers += 1
            self._start(self._write_unkept())
        try:
            async with asyncio.timeout(self._outbox_seconds):
                await kept
        except Exception as exc:
            log.warning("outbox_write_failed reason=%s", str(exc) or "no answer in time")
            return False
        return True

    async def _write_unkept(self) -> None:
        """Write waiting events together until none is waiting."""
        try:
            while batch := self._take_unkept():
                try:
                    async with asyncio.timeout(self._outbox_seconds):
                        await self._outbox.keep([each.event for each in batch])
                except Exception as exc:
                    for each in batch:
                        if not each.kept.done():
                            each.kept.set_exception(exc)
                else:
                    log.info("outbox_stored count=%d", len(batch))
                    for each in batch:
                        if not each.kept.done():
                            each.kept.set_result(None)
        finally:
            self._writers -= 1

    def _take_unkept(self) -> list[_Unkept]:
        live = [each for each in self._unkept if not each.kept.done()]
        self._unkept = live[MAX_KEPT_TOGETHER:]
        return live[:MAX_KEPT_TOGETHER]


async def _ended(work: Awaitable[None]) -> None:
    await work


def _log_in_full(event: UsageEvent) -> None:
    """The last resort: the log is then the only record of this call.

    It is in full but for the caller's name: logs have no names.
    """
    event = replace(event, principal=replace(event.principal, name=None))
    try:
        text = encode_event(event).decode()
    except Exception:  # an event that cannot be encoded is still readable as text
        text = repr(event)
    log.critical("usage_event_unpublished event=%s", without_apostrophes(text))
