"""Hubs, partitions and their readers: what exists, who reads it, who is notified of new events."""

import fcntl
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Final, Protocol

from local.eventhubs.config import DEFAULT_GROUP, Config, HubConfig
from local.eventhubs.log import PartitionLog
from local.eventhubs.message import LastEnqueued, Message
from local.eventhubs.performatives import Condition, Refusal
from meter.adapters.partition_key import choose_partition

_choose: Final = lru_cache(maxsize=256)(choose_partition)  # a sender's keys are few
MAX_READERS: Final = 5  # without an owner level, per partition and consumer group


class DataInUseError(RuntimeError):
    """Another endpoint writes to the same directory."""


class Reader(Protocol):
    """A link that delivers one partition to one member of a consumer group."""

    @property
    def owner_level(self) -> int | None:
        """The epoch; None for a reader that shares the partition."""

    def wake(self) -> None:
        """Called when events were appended."""

    def steal(self) -> None:
        """Called when a reader with a higher owner level took over."""


class Partition:
    """One log, and the readers of each consumer group on it."""

    def __init__(self, partition_id: str, log: PartitionLog, now_ms: Callable[[], int]) -> None:
        self.partition_id = partition_id
        self.log = log
        self._now_ms = now_ms
        self._readers: dict[str, list[Reader]] = {}

    def append(self, messages: Sequence[Message]) -> None:
        """Make the messages durable, then notify every reader. Raises `OSError`."""
        if not messages:
            return
        self.log.append(messages)
        for readers in self._readers.values():
            for reader in readers:
                reader.wake()

    def last_enqueued(self) -> LastEnqueued | None:
        """Return the newest event; None while the partition is empty."""
        enqueued_ms = self.log.last_enqueued_ms
        if enqueued_ms is None:
            return None
        return LastEnqueued(
            sequence_number=len(self.log) - 1,
            offset=self.log.last_offset,
            enqueued_ms=enqueued_ms,
            retrieved_ms=self._now_ms(),
        )

    def admit(self, group: str, reader: Reader) -> Refusal | None:
        """Admit a reader, or return the reason for refusing it.

        A reader with an owner level ends every reader of the group without one or with an equal
        or lower one; while it holds the partition, a weaker reader is refused.
        """
        readers = self._readers.setdefault(group, [])
        holder = max((r.owner_level for r in readers if r.owner_level is not None), default=None)
        if holder is not None and (reader.owner_level is None or reader.owner_level < holder):
            return Refusal(
                Condition.LINK_STOLEN,
                f"a receiver with owner level {holder} holds partition {self.partition_id}",
            )
        if reader.owner_level is None and len(readers) >= MAX_READERS:
            return Refusal(
                Condition.RESOURCE_LIMIT_EXCEEDED,
                f"partition {self.partition_id} has {MAX_READERS} receivers in this consumer group",
            )
        if reader.owner_level is not None:
            for weaker in list(readers):
                weaker.steal()
            readers.clear()
        readers.append(reader)
        return None

    def dismiss(self, group: str, reader: Reader) -> None:
        """Remove a reader; a second call does nothing."""
        readers = self._readers.get(group, [])
        if reader in readers:
            readers.remove(reader)


class Hub:
    """An event hub: its partitions and its consumer groups."""

    def __init__(self, config: HubConfig, directory: Path, now_ms: Callable[[], int]) -> None:
        self.name = config.name
        self._groups = {group.casefold() for group in (DEFAULT_GROUP, *config.consumer_groups)}
        self._turn = count()
        directory.mkdir(parents=True, exist_ok=True)
        self.created_ms = _creation_time(directory / "created", now_ms())
        self.partitions: dict[str, Partition] = {}
        try:
            for number in range(config.partition_count):
                log = PartitionLog(directory / f"{number}.log", now_ms)
                self.partitions[str(number)] = Partition(str(number), log, now_ms)
        except BaseException:
            self.close()
            raise

    def has_group(self, group: str) -> bool:
        """Whether the consumer group exists; names ignore case, as the service's do."""
        return group.casefold() in self._groups

    def route(self, partition_key: str | None) -> Partition:
        """Return the key's partition; without a key, the next one in turn."""
        total = len(self.partitions)
        number = (
            next(self._turn) % total if partition_key is None else _choose(partition_key, total)
        )
        return self.partitions[str(number)]

    def close(self) -> None:
        """Close every log."""
        for partition in self.partitions.values():
            partition.log.close()


class Broker:
    """Every hub of one data directory, to which nothing else may write."""

    def __init__(self, config: Config, data_dir: Path, now_ms: Callable[[], int]) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(data_dir)
        self._hubs: dict[str, Hub] = {}
        try:
            for hub in config.hubs:
                self._hubs[hub.name.casefold()] = Hub(hub, data_dir / hub.name, now_ms)
        except BaseException:
            self.close()
            raise

    def hub(self, name: str) -> Hub | None:
        """Return the hub of this name, ignoring case, or None."""
        return self._hubs.get(name.casefold())

    def close(self) -> None:
        """Close every log and release the directory."""
        for hub in self._hubs.values():
            hub.close()
        self._hubs.clear()
        os.close(self._lock)


def _lock(data_dir: Path) -> int:
    # Two writers would give the same sequence number to different events.
    lock = os.open(data_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        raise DataInUseError(f"another endpoint is using {data_dir}") from exc
    return lock


def _creation_time(marker: Path, now_ms: int) -> int:
    """Return when the hub was first seen, in milliseconds, from a file that outlives restarts."""
    if not marker.exists():
        marker.write_text(str(now_ms), encoding="ascii")
    text = marker.read_text(encoding="ascii")
    return int(text) if text.isdigit() else now_ms
