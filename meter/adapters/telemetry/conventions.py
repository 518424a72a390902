"""Names of metrics and attributes: OpenTelemetry's for generative AI, and our own.

The conventions are at github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai, status
Development): gen-ai-metrics.md for metrics and bucket boundaries, gen-ai-spans.md and openai.md for
spans. Azure OpenAI's deployment is what a request calls its model.
"""

from functools import lru_cache
from urllib.parse import urlsplit

from meter.usage import Outcome, Tier, UsageEvent, UsageSource

PROVIDER = "azure.ai.openai"
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105  # a name
OPERATION_DURATION = "gen_ai.client.operation.duration"
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105  # a name
TOKEN_BOUNDARIES = [4.0**power for power in range(14)]
DURATION_BOUNDARIES = [0.01 * 2**power for power in range(14)]
FIRST_TOKEN_BOUNDARIES = [
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
]

CALLS = "aoai_meter.calls"
JOINED = "aoai_meter.calls.joined"
ATTEMPT_DURATION = "aoai_meter.backend.attempt.duration"
CIRCUIT_OPEN = "aoai_meter.backend.circuit.open"
ACTIVE_CALLS = "aoai_meter.backend.calls.active"
PUBLISH_DURATION = "aoai_meter.publish.duration"
PENDING = "aoai_meter.publish.pending"
UNPUBLISHED = "aoai_meter.publish.unpublished"
HUB_CIRCUIT_OPEN = "aoai_meter.hub.circuit.open"
OUTBOX_EVENTS = "aoai_meter.outbox.events"
OUTBOX_AGE = "aoai_meter.outbox.age"
COUNTED = "aoai_meter.ledger.calls"
REPEATS = "aoai_meter.ledger.repeats"
DEAD_LETTERS = "aoai_meter.ledger.dead_letters"
LAG = "aoai_meter.ledger.lag"
SLOTS = "aoai_meter.slots"
DRAINS = "aoai_meter.drains"
BODY_BUDGET = "aoai_meter.body_budget"
PUBLISH_BOUNDARIES = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]
LAG_BOUNDARIES = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0, 86400.0]

BACKEND = "aoai_meter.backend"
DEPLOYMENT = "aoai_meter.deployment"
OUTCOME = "aoai_meter.outcome"
TIER = "aoai_meter.tier"
USAGE_SOURCE = "aoai_meter.usage_source"
ATTEMPT_OUTCOME = "aoai_meter.attempt.outcome"
DESTINATION = "aoai_meter.destination"
ERROR_TYPE = "error.type"
STATUS = "http.response.status_code"
REJECTED = "rejected"

# Of the conventions' names where one applies; other operations keep their name in the event.
_OPERATIONS = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "responses": "chat",
}
_PORTS = {"https": 443, "http": 80}

type Attributes = tuple[tuple[str, str | int], ...]


def operation_name(operation: str) -> str:
    """The conventions' name of an operation."""
    return _OPERATIONS.get(operation, operation)


@lru_cache(4_096)
def call_attributes(
    operation: str, deployment: str, model: str | None, url: str | None
) -> Attributes:
    """The attributes that GenAI metrics have in common."""
    found: list[tuple[str, str | int]] = [
        ("gen_ai.operation.name", operation_name(operation)),
        ("gen_ai.provider.name", PROVIDER),
        ("gen_ai.request.model", deployment),
    ]
    if model is not None:
        found.append(("gen_ai.response.model", model))
    if url is not None:
        address = urlsplit(url)
        found.append(("server.address", address.hostname or url))
        found.append(("server.port", address.port or _PORTS.get(address.scheme, 443)))
    return tuple(found)


@lru_cache(4_096)
def token_attributes(operation: str, deployment: str, model: str | None, kind: str) -> Attributes:
    """Those of a count of tokens, which are `input` or `output`."""
    common = call_attributes(operation, deployment, model, None)
    return (*common, ("gen_ai.token.type", kind))


@lru_cache(4_096)
def ending_attributes(
    outcome: Outcome, backend: str, deployment: str, tier: Tier, source: UsageSource
) -> Attributes:
    """Those that calls are counted by."""
    return (
        (OUTCOME, outcome.value),
        (BACKEND, backend),
        (DEPLOYMENT, deployment),
        (TIER, tier.value),
        (USAGE_SOURCE, source.value),
    )


@lru_cache(4_096)
def attempt_attributes(backend: str, status: int | None) -> Attributes:
    """Those of one request to a backend; its status is None where it did not answer."""
    found: Attributes = ((BACKEND, backend), (ATTEMPT_OUTCOME, _attempt_outcome(status)))
    return found if status is None else (*found, (STATUS, status))


def error_type(event: UsageEvent) -> str | None:
    """The kind of error that a call ended with; None where it ended well, or its caller left."""
    if event.outcome in {Outcome.SERVED, Outcome.DISCONNECTED}:
        return None
    return str(event.status) if event.status >= 400 else str(event.outcome)


def _attempt_outcome(status: int | None) -> str:
    if status is None:
        return "unanswered"
    if status == 429:
        return "throttled"
    if status >= 500:
        return "error"
    return "refused" if status >= 400 else "served"
