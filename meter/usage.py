"""The usage event: one metered call, its caller, its token counts and where they come from.

A `UsageEvent` is what the front door publishes and the aggregator counts. Both halves of the
product share this module and nothing else. Its wire form is CloudEvents 1.0 JSON.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

EVENT_TYPE = "aoai.meter.usage.v1"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_SUBJECT_CHARS = 255
MAX_EVENT_BYTES = 32_768

# With these settings `json.dumps` would build a new encoder on every call.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class UsageSource(StrEnum):
    """Where a call's token counts come from."""

    REPORTED = "reported"
    ESTIMATED = "estimated"
    MISSING = "missing"


class Outcome(StrEnum):
    """How a call that reached a backend ended."""

    SERVED = "served"
    REFUSED = "refused"
    FAILED = "failed"
    DISCONNECTED = "disconnected"


class Tier(StrEnum):
    """How a backend's capacity is bought."""

    PROVISIONED = "provisioned"
    STANDARD = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Token counts of one call or of a sum of calls; those of an adjustment may be negative.

    Cached tokens are part of the prompt and reasoning tokens part of the completion: both are
    shares, never to be added to the total. `seconds` is audio length, rounded up.

    The fields are the only list of the counts: events, markers and stored columns derive from it.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    seconds: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        added = {name: getattr(self, name) + getattr(other, name) for name in COUNT_NAMES}
        return TokenUsage(**added)

    def as_document(self) -> dict[str, int]:
        """All counts by name, zeros included; `TokenUsage(**document)` reads them back."""
        return {name: getattr(self, name) for name in COUNT_NAMES}


COUNT_NAMES = tuple(each.name for each in fields(TokenUsage))
# Mandatory in an event's `usage`. A reader takes any other count as 0 where it is absent.
MANDATORY_COUNTS = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"}
)
NO_USAGE = TokenUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The verified caller: the billed subject and further claims of the token."""

    subject: str
    issuer: str
    tenant: str | None = None
    object_id: str | None = None
    client_app: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at one backend; `status` is None if the backend did not answer."""

    backend: str
    status: int | None
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedUsage:
    """Counts and their dimensions. `time` decides the window in which they count."""

    time: datetime
    deployment: str
    model: str | None
    tier: Tier
    usage: TokenUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCall(CountedUsage):
    """What is counted of a call; its time is the call's end."""

    outcome: Outcome
    usage_source: UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent(CountedCall):
    """One call that reached a backend."""

    id: UUID
    source: str
    principal: Principal
    operation: str
    api_version: str | None
    backend: str | None
    spilled_from: str | None = None
    status: int
    streaming: bool
    usage_raw: Mapping[str, object] | None = field(default=None, hash=False)
    attempts: tuple[Attempt, ...] = ()
    started_at: datetime
    duration_ms: int
    time_to_first_byte_ms: int | None = None
    client_retry_count: int = 0

    @property
    def subject(self) -> str:
        """The JWT subject that is billed."""
        return self.principal.subject


def new_event_id(at: datetime, entropy: bytes) -> UUID:
    """Make a UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 random bits.

    `entropy` is 10 random bytes. Ids sort by time, so one batch's ids lie close together.
    """
    milliseconds = int(at.timestamp() * 1000)
    random_bits = int.from_bytes(entropy[:10])
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (random_bits >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | random_bits & ((1 << 62) - 1)
    return UUID(int=value)


def encode_event(event: UsageEvent) -> bytes:
    """Write one event as CloudEvents 1.0 JSON, UTF-8, every field present.

    `usage_raw` is the backend's own text. The event is sent without it if it is nested too deeply,
    is not valid as JSON in UTF-8, or makes the event longer than MAX_EVENT_BYTES.
    """
    try:
        encoded = _encode(event)
    except (ValueError, RecursionError):
        encoded = b""
    if not 0 < len(encoded) <= MAX_EVENT_BYTES:
        encoded = _encode(replace(event, usage_raw=None))
    return encoded


def encode_envelope(
    kind: str, source: str, event_id: UUID, subject: str, time: datetime, data: Mapping[str, object]
) -> bytes:
    """Write a CloudEvents 1.0 document. Raises ValueError for text that UTF-8 cannot encode."""
    document = {
        "specversion": "1.0",
        "type": kind,
        "source": source,
        "id": str(event_id),
        "subject": subject,
        "time": format_time(time),
        "datacontenttype": "application/json",
        "data": data,
    }
    return _JSON.encode(document).encode()


def encode_batch(encoded_events: Iterable[bytes]) -> bytes:
    """Join encoded events into a CloudEvents batch (a JSON array) without parsing them again."""
    return b"[" + b",".join(encoded_events) + b"]"


def is_writable(text: str) -> bool:
    """Whether UTF-8 can encode the text: JSON strings can hold lone surrogates, which it cannot."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _encode(event: UsageEvent) -> bytes:
    return encode_envelope(
        EVENT_TYPE, event.source, event.id, event.principal.subject, event.time, _data(event)
    )


def _data(event: UsageEvent) -> dict[str, object]:
    principal = event.principal
    return {
        "principal": {
            "issuer": principal.issuer,
            "tenant": principal.tenant,
            "object_id": principal.object_id,
            "client_app": principal.client_app,
        },
        "operation": event.operation,
        "deployment": event.deployment,
        "model": event.model,
        "api_version": event.api_version,
        "backend": event.backend,
        "tier": event.tier,
        "spilled_from": event.spilled_from,
        "outcome": event.outcome,
        "status": event.status,
        "streaming": event.streaming,
        "usage": event.usage.as_document(),
        "usage_source": event.usage_source,
        "usage_raw": event.usage_raw,
        "attempts": [
            {"backend": a.backend, "status": a.status, "duration_ms": a.duration_ms}
            for a in event.attempts
        ],
        "started_at": format_time(event.started_at),
        "duration_ms": event.duration_ms,
        "time_to_first_byte_ms": event.time_to_first_byte_ms,
        "client_retry_count": event.client_retry_count,
    }
