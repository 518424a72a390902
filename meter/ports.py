"""What the core needs from the outside, as small protocols; adapters implement them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from meter.usage import UsageEvent
from meter.waiting.bypass import Bypass

MAX_TRANSACTION_ROWS = 100
INT64 = range(-(2**63), 2**63)  # the whole numbers that a column holds
MAX_SEND_BYTES = 800_000  # a send holds 1 MB at most, and each message a little overhead

type Headers = tuple[tuple[str, str], ...]


class Clock(Protocol):
    """The time: `now` is aware UTC, `monotonic` are seconds that only go forward."""

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, for durations."""


class Dice(Protocol):
    """Chance, so that tests can own it."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def randbytes(self, n: int) -> bytes:
        """`n` random bytes."""


class UsageSink(Protocol):
    """Takes usage events. Never raises: an event that cannot be published is stored or logged."""

    async def publish(self, event: UsageEvent) -> None:
        """Return when the event is acknowledged, or is in the outbox, or is logged in full.

        Cancelling the wait does not cancel the event.
        """


class Trace(Struct, frozen=True):
    """A call's place in a trace: the headers that continue it, and what telemetry knows it by."""

    headers: Headers
    span: object = None


class Telemetry(Protocol):
    """What is observed of calls. It neither waits nor raises, and changes nothing but trace headers."""

    def begin(
        self, headers: Headers, *, started_at: datetime, operation: str, deployment: str
    ) -> Trace:
        """A call begins. Its headers have the caller's valid trace, or none."""

    def ended(self, trace: Trace, events: Sequence[UsageEvent]) -> None:
        """A call that had reached a backend has ended. The last of its events is its own."""

    def rejected(self, status: int, reason: str) -> None:
        """A call was answered without any backend."""

    def joined(self) -> None:
        """A repeat was given the answer of a call under way."""


class CountObserver(Protocol):
    """Observes an aggregator. It neither waits nor raises."""

    def counted(self, calls: Sequence[UsageEvent], repeats: int) -> None:
        """These calls are in the ledger now, and were not before; so many others had been."""

    def dead_lettered(self, count: int) -> None:
        """So many events were set aside as dead letters."""


class NoTelemetry:
    """`Telemetry` that observes nothing."""

    def begin(self, headers: Headers, **_of_the_call: object) -> Trace:
        """The headers as they are."""
        return Trace(headers)

    def ended(self, trace: Trace, events: Sequence[UsageEvent]) -> None:
        """Nothing."""

    def rejected(self, status: int, reason: str) -> None:
        """Nothing."""

    def joined(self) -> None:
        """Nothing."""


NO_TELEMETRY = NoTelemetry()


class TokenCounter(Protocol):
    """Counts the tokens of a text as a model's tokenizer does."""

    def count(self, text: str) -> int:
        """The number of tokens of the text."""


class Spool(Protocol):
    """Keeps a request body while it is forwarded, so that it can be sent again."""

    def append(self, data: bytes) -> None:
        """Append bytes. Raises Overloaded when there is no room for them."""

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start`; empty at the end of the appended bytes."""

    def close(self) -> None:
        """Delete the body."""


class KeySetSource(Protocol):
    """Fetches an issuer's published keys."""

    async def fetch(self, issuer: str) -> Sequence[Mapping[str, object]]:
        """The `keys` of the issuer's JWKS. Raises KeysUnavailable."""


class UpstreamRequest(Struct, frozen=True, kw_only=True):
    """One HTTP request to a backend, ready to send.

    A long body comes in parts, and one that is still arriving is a function that yields its bytes from
    the beginning, each time.
    """

    backend: str
    method: str
    url: str
    headers: Headers
    body: bytes | tuple[bytes | memoryview, ...] | Callable[[], AsyncIterator[bytes]]


class UpstreamAnswer(Protocol):
    """A backend's answer whose head has arrived. Must be closed."""

    @property
    def status(self) -> int:
        """The HTTP status code."""

    @property
    def headers(self) -> Headers:
        """Header names in lower case with values, repeated names kept."""

    def chunks(self, bypass: Bypass | None = None) -> AsyncIterator[bytes]:
        """The body as it arrives, undecoded, but for what the bypass takes. Raises UpstreamBroken when it
        is cut.
        """

    def arrived(self) -> bytes | None:
        """All of the body, to be asked for before `chunks`, which has none of it then. None, and `chunks` has
        it all, where it has not arrived to a clean end.
        """

    async def close(self) -> None:
        """Release the connection, or drop it when the body was not read to its end."""


class Upstream(Protocol):
    """Sends requests to backends."""

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> UpstreamAnswer:
        """Send and wait for the head. Raises UpstreamUnreachable, UpstreamTimeout or UpstreamBroken."""


class BackendCredentials(Protocol):
    """Authenticates the gateway to each backend."""

    def at_hand(self, backend: str) -> Headers | None:
        """The header that does; None where it has to be waited for."""

    async def headers_for(self, backend: str) -> Headers:
        """The header that authenticates the gateway to that backend. Raises UpstreamError."""


class Row(Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """A row: its key, its columns and the etag it was read with (None: not stored yet).

    `written_at` is when the store last wrote it, by the store's clock, which is not compared; None
    if that was not read. An event makes a dozen rows, and a `Struct` takes 0.1 us, a frozen
    dataclass 1.5.
    """

    key: str
    columns: Mapping[str, object]
    etag: str | None = None
    written_at: datetime | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return (self.key, self.columns, self.etag) == (other.key, other.columns, other.etag)


class Written(Struct, frozen=True):
    """The transaction was applied; the rows' new etags by row key."""

    etags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing of the transaction was applied: a row exists already, or was changed or deleted.

    `exists` says that it was the first: a row to insert is there. Other conflicts prove no row.
    """

    exists: bool = field(default=False, compare=False)


class RowStore(Protocol):
    """Tables of rows, partitioned, with entity-group transactions.

    All methods raise StorageUnavailable when it is unknown whether or not they took effect.
    """

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """The rows that exist, by row key."""

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """The row keys from `first` to `last`, both included."""

    async def write(
        self,
        table: str,
        partition: str,
        *,
        insert: Sequence[Row] = (),
        update: Sequence[Row] = (),
        delete: Sequence[Row] = (),
        creates_table: bool = True,
    ) -> Written | Conflict:
        """Apply all or nothing: insert rows that must not exist, merge or delete rows whose etag
        must match. At most `MAX_TRANSACTION_ROWS` together.

        Raises RowsRefused for rows that cannot be stored. A missing table is created, or raises
        TableMissing.
        """

    def scan(
        self,
        table: str,
        *,
        first_partition: str,
        last_partition: str,
        first_key: str | None = None,
        last_key: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a range of partitions, both included, in key order, as (partition, row).

        With keys, only rows from `first_key` to `last_key`, both included, of each partition; with
        a single partition no other rows are read. With `columns`, only those columns.
        """


class Tables(Protocol):
    """The tables of the account. All methods raise StorageUnavailable."""

    async def names(self, prefix: str) -> list[str]:
        """The names with the prefix, in order."""

    async def drop(self, table: str) -> None:
        """Delete a table with all its rows; it may be gone already."""

    async def service_time(self) -> datetime:
        """The service's own clock, to the second."""


class Hub(Protocol):
    """Sends encoded events to the hub."""

    def send(self, subject: str, events: Sequence[bytes]) -> Awaitable[None]:
        """Ends when the hub has acknowledged all of them, or none. Raises PublishFailed.

        Together they are at most `MAX_SEND_BYTES`, or a single event. A future, where nothing is to be
        awaited before they are on their way, spares who waits for many a task for each.
        """


class HubPartition(Struct, frozen=True, kw_only=True):
    """What a hub partition holds: the numbers of its first and last event, and when it took that."""

    id: str
    first_number: int
    last_number: int
    last_enqueued_at: datetime
    is_empty: bool = False


class HubReader(Protocol):
    """Reads along on the hub, and takes nothing from it. All methods raise HubUnavailable."""

    @property
    def name(self) -> str:
        """The hub, as `namespace/name`."""

    async def partitions(self) -> Sequence[HubPartition]:
        """Its partitions, as they are now."""

    def read(self, partition: str, *, first: int, last: int) -> AsyncIterator[bytes]:
        """The bodies of a partition's messages from one number to another, both included."""


class Backlog(Struct, frozen=True, kw_only=True):
    """What waits in the outbox: how many events, and the age of the oldest call."""

    events: int
    oldest_seconds: float


class Outbox(Protocol):
    """Keeps events that the hub did not acknowledge, until they are published."""

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        """Store the events. Raises StorageUnavailable."""
