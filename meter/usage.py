"""The usage event: one metered call, its caller, its token counts and where they come from.

A `UsageEvent` is what the front door publishes and the aggregator counts. Both halves of the
product share this module and nothing else. Its wire form is CloudEvents 1.0 JSON.

Its values are structs of msgspec, since several are made per call and per event: their constructors
are in C, and take a fifth of the time of a frozen dataclass's. An event with `usage_raw` has no hash.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import compress
from operator import add
from typing import NamedTuple
from unicodedata import category
from uuid import UUID

from msgspec import Raw, Struct, convert
from msgspec.json import Encoder

EVENT_TYPE = "aoai.meter.usage.v1"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_SUBJECT_CHARS = 255
MAX_NAME_CHARS = 128
MAX_TOOLS = 8
MAX_EVENT_BYTES = 32_768

_JSON = Encoder()  # of msgspec: a fifth of the time that `json` takes


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
    """How Azure bills a call. A backend or a deployment has one of the first two."""

    PROVISIONED = "provisioned"
    STANDARD = "standard"
    PRIORITY = "priority"
    FLEX = "flex"


class Context(StrEnum):
    """Whether Azure bills a call on its long-context meters, which it does wholly or not at all."""

    SHORT = "short"
    LONG = "long"


class TokenUsage(NamedTuple):  # made and added for every event, which a tuple does fast
    """What was used by one call or a sum of calls; counts of an adjustment may be negative.

    All tokens but the first three are shares, never to be added to the total: cached, cache write,
    `audio_prompt` and `image_prompt` tokens are part of the prompt, reasoning, `audio_completion` and
    `image_completion` tokens of the completion. `audio_cached` and `image_cached` tokens are part of
    the cached ones; `audio_tokens` and `image_tokens` are those of both directions. `seconds` is
    audio length, rounded up. `images` and `characters` are counted where the answer tells no tokens.

    The fields are the only list of the counts: events, markers and stored columns derive from it.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    audio_prompt_tokens: int = 0
    audio_cached_tokens: int = 0
    audio_completion_tokens: int = 0
    image_tokens: int = 0
    image_prompt_tokens: int = 0
    image_cached_tokens: int = 0
    image_completion_tokens: int = 0
    seconds: int = 0
    images: int = 0
    characters: int = 0
    web_search_calls: int = 0
    file_search_calls: int = 0
    code_interpreter_calls: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":  # type: ignore[override]  # counts are added, not joined
        return total_usage((self, other))

    def as_document(self) -> dict[str, int]:
        """All counts by name, zeros included; `TokenUsage(**document)` reads them back."""
        return self._asdict()

    def nonzero(self) -> dict[str, int]:
        """The counts that are not 0, by name; `TokenUsage(**document)` reads them back."""
        # Most are 0, which are passed over in C: half of the time of a look at each.
        return {COUNT_NAMES[place]: self[place] for place in compress(_PLACES, self)}


COUNT_NAMES = TokenUsage._fields
_PLACES = tuple(range(len(COUNT_NAMES)))
# Mandatory in an event's `usage`. A reader takes any other count as 0 where it is absent.
MANDATORY_COUNTS = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"}
)
_ZEROS = {name: 0 for name in COUNT_NAMES if name in MANDATORY_COUNTS}
NO_USAGE = TokenUsage()

# Of a UUIDv7: the random bits before and behind the variant; version and variant.
_RANDOM_A, _RANDOM_B = 0xFFF << 64, (1 << 62) - 1
_VERSION_7 = 0x7 << 76 | 0b10 << 62


def total_usage(usages: Sequence[TokenUsage]) -> TokenUsage:
    """All of them added up, count by count."""
    used = [usage for usage in usages if usage is not NO_USAGE]
    if len(used) < 2:
        return used[0] if used else NO_USAGE
    if len(used) == 2:  # what is added to a sum, for every one of them
        return tuple.__new__(TokenUsage, map(add, *used))  # `_make` without its check of the length
    return TokenUsage._make(map(sum, zip(*used, strict=True)))


class Principal(Struct, frozen=True, kw_only=True, gc=False):
    """The verified caller: the billed subject and further claims of the token.

    `name` is what people call it, from the claims that METER_NAME_CLAIMS names: personal data.
    """

    subject: str
    issuer: str
    tenant: str | None = None
    object_id: str | None = None
    client_app: str | None = None
    name: str | None = None


class Attempt(Struct, frozen=True, kw_only=True, gc=False):
    """One attempt at one backend; `status` is None if the backend did not answer."""

    backend: str
    status: int | None
    duration_ms: int


class ToolUsage(Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of another model that served a call as a tool, under the names of its deployment.

    `deployment_type` is that deployment's, where it is known and not the call's own.
    """

    deployment: str
    model: str | None
    deployment_type: str | None = None
    usage: TokenUsage

    def as_document(self, usage: dict[str, int]) -> dict[str, object]:
        """The JSON object of events and markers, with the usage as these write it."""
        document: dict[str, object] = {"deployment": self.deployment, "model": self.model}
        if self.deployment_type is not None:
            document["deployment_type"] = self.deployment_type
        return document | {"usage": usage}


class CountedUsage(Struct, frozen=True, kw_only=True, gc=False):
    """Counts and their dimensions. `time` decides the window in which they count.

    `region` and `deployment_type` are those of the deployment that served the call, where they are
    known.
    """

    time: datetime
    deployment: str
    model: str | None
    backend: str | None
    region: str | None = None
    deployment_type: str | None = None
    tier: Tier
    context: Context = Context.SHORT
    usage: TokenUsage


class CallUsage(CountedUsage, frozen=True, kw_only=True, gc=False):
    """What is counted of a call; its time is the call's end."""

    outcome: Outcome
    usage_source: UsageSource
    tool_usage: tuple[ToolUsage, ...] = ()


class CountedCall(CallUsage, frozen=True, kw_only=True, gc=False):
    """A call as it was counted, read back from the ledger."""

    client_app: str | None


class UsageEvent(CallUsage, frozen=True, kw_only=True, gc=False):
    """One call that reached a backend. `service_tier` is the answer's own word for its tier.

    `traceparent` is the W3C trace that the call is part of.
    """

    id: UUID
    source: str
    principal: Principal
    operation: str
    api_version: str | None
    service_tier: str | None = None
    spilled_from: str | None = None
    status: int
    streaming: bool
    usage_raw: Mapping[str, object] | None = None
    attempts: tuple[Attempt, ...] = ()
    started_at: datetime
    duration_ms: int
    time_to_first_byte_ms: int | None = None
    client_retry_count: int = 0
    traceparent: str | None = None

    @property
    def client_app(self) -> str | None:
        """The application whose token it was."""
        return self.principal.client_app

    @property
    def subject(self) -> str:
        """The JWT subject that is billed."""
        return self.principal.subject


def new_event_id(at: datetime, entropy: bytes) -> UUID:
    """Make a UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 random bits.

    `entropy` is 10 random bytes. Ids sort by time, so one batch's ids lie close together.
    """
    milliseconds = int(at.timestamp() * 1000) & ((1 << 48) - 1)
    bits = int.from_bytes(entropy[:10])
    value = milliseconds << 80 | bits << 2 & _RANDOM_A | bits & _RANDOM_B | _VERSION_7
    return convert(value.to_bytes(16), UUID)  # which msgspec makes in C


def encode_event(event: UsageEvent) -> bytes:
    """Write one event as CloudEvents 1.0 JSON, UTF-8: every field, and the counts that are not 0.

    `usage_raw` is the backend's own text. The event is sent without it if it is nested too deeply,
    is not valid as JSON in UTF-8, or makes the event longer than MAX_EVENT_BYTES.
    """
    try:
        encoded = _encode(event, _as_it_came(event.usage_raw))
    except (ValueError, RecursionError):
        encoded = b""
    if not 0 < len(encoded) <= MAX_EVENT_BYTES:
        encoded = _encode(event, None)
    return encoded


def encode_envelope(
    kind: str,
    source: str,
    event_id: UUID,
    subject: str,
    time: datetime,
    data: Mapping[str, object],
    *,
    traceparent: str | None = None,
) -> bytes:
    """Write a CloudEvents 1.0 document, with its tracing extension if the event is part of a trace.

    Raises ValueError for text that UTF-8 cannot encode.
    """
    document = {
        "specversion": "1.0",
        "type": kind,
        "source": source,
        "id": event_id,
        "subject": subject,
        **({} if traceparent is None else {"traceparent": traceparent}),
        "time": _moment(time),
        "datacontenttype": "application/json",
        "data": data,
    }
    return _JSON.encode(document)


def encode_batch(encoded_events: Iterable[bytes]) -> bytes:
    """Join encoded events into a CloudEvents batch (a JSON array) without parsing them again."""
    return b"[" + b",".join(encoded_events) + b"]"


def clean_name(value: object) -> str | None:
    """A name for people to read: one line of visible characters, `MAX_NAME_CHARS` at most.

    Control, format (also those that change the direction of text), private and unassigned characters
    are left out, and lone surrogates. None where nothing is left, or it is no text.
    """
    if not isinstance(value, str):
        return None
    kept = value[: 8 * MAX_NAME_CHARS]
    if not (kept.isascii() and kept.isprintable()):
        spaced = " ".join(kept.split())
        visible = "".join(char for char in spaced if not category(char).startswith("C"))
        kept = " ".join(visible.split())  # what was between two spaces may be gone
    return kept.strip()[:MAX_NAME_CHARS].strip() or None


def usage_document(usage: TokenUsage) -> dict[str, int]:
    """The counts as an event has them: the mandatory ones, and those of the others that are not 0."""
    return _ZEROS | usage.nonzero()


def is_writable(text: str) -> bool:
    """Whether UTF-8 can encode the text: JSON strings can hold lone surrogates, which it cannot."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def _moment(moment: datetime) -> object:
    """What msgspec writes as `format_time` does: a time itself, but for one of whole seconds."""
    return moment if moment.tzinfo is UTC and moment.microsecond else format_time(moment)


def _as_it_came(usage_raw: Mapping[str, object] | None) -> Raw | None:
    """The backend's own text as JSON. Raises ValueError for what JSON or UTF-8 cannot say.

    NaN and infinities are of that kind: msgspec writes them as null.
    """
    if usage_raw is None:
        return None
    encoded = _JSON.encode(usage_raw)
    if b"null" in encoded:
        json.dumps(usage_raw, allow_nan=False)
    return Raw(encoded)


def _encode(event: UsageEvent, usage_raw: Raw | None) -> bytes:
    return encode_envelope(
        EVENT_TYPE,
        event.source,
        event.id,
        event.principal.subject,
        event.time,
        _data(event, usage_raw),
        traceparent=event.traceparent,
    )


def _data(event: UsageEvent, usage_raw: Raw | None) -> dict[str, object]:
    principal = (
        event.principal
    )  # by `attrgetter` it is half of the instructions, but 1.6 times as long
    return {
        "principal": {
            "issuer": principal.issuer,
            "tenant": principal.tenant,
            "object_id": principal.object_id,
            "client_app": principal.client_app,
            "name": principal.name,
        },
        "operation": event.operation,
        "deployment": event.deployment,
        "model": event.model,
        "api_version": event.api_version,
        "backend": event.backend,
        "region": event.region,
        "deployment_type": event.deployment_type,
        "tier": event.tier,
        "service_tier": event.service_tier,
        "context": event.context,
        "spilled_from": event.spilled_from,
        "outcome": event.outcome,
        "status": event.status,
        "streaming": event.streaming,
        "usage": usage_document(event.usage),
        "tool_usage": [tool.as_document(usage_document(tool.usage)) for tool in event.tool_usage],
        "usage_source": event.usage_source,
        "usage_raw": usage_raw,
        "attempts": event.attempts,
        "started_at": _moment(event.started_at),
        "duration_ms": event.duration_ms,
        "time_to_first_byte_ms": event.time_to_first_byte_ms,
        "client_retry_count": event.client_retry_count,
    }
