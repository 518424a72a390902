"""Gathers what is known of one call and makes its usage event of it."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from meter.gateway.answer.relay import StreamEnd
from meter.gateway.answer.usage import Reading
from meter.gateway.backend import Backend
from meter.gateway.balance.forward import Tries
from meter.gateway.headers import header
from meter.gateway.request.route import Route, is_deployment_name
from meter.ports import Clock, Headers
from meter.usage import NO_USAGE, Outcome, Principal, Tier, UsageEvent, UsageSource


@dataclass(slots=True, kw_only=True)
class Metering:
    """One call from its start to its event."""

    event_id: UUID
    principal: Principal
    route: Route
    deployment: str
    is_streaming: bool
    started_at: datetime
    started: float
    retry_count: int
    clock: Clock
    tries: Tries = field(default_factory=Tries)
    first_byte_ms: int | None = None
    is_published: bool = False

    def elapsed_ms(self, until: float | None = None) -> int:
        """Milliseconds from the call's start until a moment (monotonic), or now."""
        return round(((self.clock.monotonic() if until is None else until) - self.started) * 1000)

    def event(self, source: str, end: StreamEnd, *, status: int, headers: Headers) -> UsageEvent:
        """The call's usage event; `headers` are the backend's.

        What only handles stored answers costs nothing, whatever usage their text repeats, and goes
        where they are stored. An error that was passed on whole was served to nobody: `refused`.
        """
        backend = self.tries.last_backend
        is_charged = self.route.served.is_charged
        return UsageEvent(
            id=self.event_id,
            source=source,
            time=self.clock.now(),
            principal=self.principal,
            operation=self.route.operation,
            deployment=self.deployment,
            model=end.reading.model,
            api_version=self.route.api_version,
            backend=backend.name if backend else None,
            tier=_tier(backend, headers),
            spilled_from=_spilled_from(self.tries, headers) if is_charged else None,
            outcome=_outcome(end.outcome, status),
            status=status,
            streaming=self.is_streaming,
            usage=end.usage if is_charged else NO_USAGE,
            usage_source=end.usage_source if is_charged else UsageSource.REPORTED,
            usage_raw=end.reading.usage_raw if is_charged else None,
            attempts=tuple(self.tries.attempts),
            started_at=self.started_at,
            duration_ms=self.elapsed_ms(),
            time_to_first_byte_ms=self.first_byte_ms,
            client_retry_count=self.retry_count,
        )


def retry_count(headers: Headers) -> int:
    """Which retry of the caller's SDK this is."""
    text = header(headers, "x-stainless-retry-count") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


NOTHING_READ = Reading()


def _outcome(outcome: Outcome, status: int) -> Outcome:
    return Outcome.REFUSED if outcome is Outcome.SERVED and status >= 400 else outcome


def _spilled_from(tries: Tries, headers: Headers) -> str | None:
    """What the call spilled over from: Azure's provisioned deployment, or our provisioned backend."""
    native = _native_spillover(headers)
    preferred, used = tries.preferred_provisioned, tries.last_backend
    if native is not None or preferred is None or used is None:
        return native
    has_spilled = used.tier is Tier.STANDARD and preferred.priority < used.priority
    return preferred.name if has_spilled else None


def _tier(backend: Backend | None, headers: Headers) -> Tier:
    """The tier the call is billed at: Azure bills its own spillover at the standard rate."""
    if backend is None or _native_spillover(headers) is not None:
        return Tier.STANDARD
    return backend.tier


def _native_spillover(headers: Headers) -> str | None:
    named = header(headers, "x-ms-spillover-from-deployment")
    return named if is_deployment_name(named) else None
