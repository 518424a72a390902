"""In-memory stand-ins for the destinations of usage events."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from azure.eventhub import EventData
from azure.eventhub.exceptions import EventDataSendError

from meter.adapters.partition_key import choose_partition
from meter.errors import PublishFailed, StorageUnavailable
from meter.usage import UsageEvent


class ServerBusy(Exception):
    """The error inside the SDK's transport when the service answers server-busy."""

    condition = b"com.microsoft:server-busy"
    description = "The server is busy. Please retry later."


def busy() -> EventDataSendError:
    """The error that a send then raises."""
    return EventDataSendError("busy", ServerBusy())  # type: ignore[arg-type]  # as the SDK does


@dataclass
class FakeProducer:
    """Stands in for `EventHubProducerClient`; records which partition the hub chose.

    `failures` are raised by the next requests, one each, None for none. `takes_seconds` is how long
    a request takes.
    """

    partitions: int = 4
    failures: list[Exception | None] = field(default_factory=list)
    takes_seconds: float = 0.0
    is_down: bool = False
    sent: defaultdict[int, list[EventData]] = field(default_factory=lambda: defaultdict(list))
    connects: int = 0
    tries: list[float] = field(default_factory=list)
    is_closed: bool = False

    async def get_partition_ids(self) -> list[str]:
        self.connects += 1
        self._fail()
        return [str(number) for number in range(self.partitions)]

    async def create_batch(self) -> None:
        """Opens the link; the result is not used."""

    async def send_event(self, message: EventData, *, partition_key: str, timeout: float) -> None:
        await self.send_batch([message], partition_key=partition_key, timeout=timeout)

    async def send_batch(
        self, messages: list[EventData], *, partition_key: str, timeout: float
    ) -> None:
        self.tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_seconds)
        self._fail()
        self.sent[choose_partition(partition_key, self.partitions)].extend(messages)

    async def close(self) -> None:
        self.is_closed = True

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        if self.is_down:
            raise busy()

    @property
    def bodies(self) -> list[bytes]:
        return [message.body_as_str().encode() for part in self.sent.values() for message in part]


@dataclass
class FakeHub:
    """Acknowledges after `takes_seconds`, or raises `failure`; records accepted events and times."""

    takes_seconds: float = 0.0
    failure: Exception | None = None
    took: list[bytes] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)

    async def send(self, subject: str, events: Sequence[bytes]) -> None:
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_seconds)
        if self.failure is not None:
            raise self.failure
        self.took.extend(events)

    def refuse(self) -> None:
        """Fail like a hub that is down."""
        self.failure = PublishFailed("busy")


@dataclass
class FakeOutbox:
    """Stores events after `takes_seconds`, or fails."""

    takes_seconds: float = 0.0
    is_down: bool = False
    on_keep: Callable[[], None] = lambda: None
    writes: list[list[UsageEvent]] = field(default_factory=list)

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        self.on_keep()
        await asyncio.sleep(self.takes_seconds)
        if self.is_down:
            raise StorageUnavailable("Outbox: no answer")
        self.writes.append(list(events))

    @property
    def kept(self) -> list[UsageEvent]:
        return [event for write in self.writes for event in write]
