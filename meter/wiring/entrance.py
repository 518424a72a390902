"""Builds the front door's entrance: who may enter, and what is answered without a backend."""

from collections.abc import Callable, Mapping
from copy import replace

from msgspec import Struct, field

from meter.adapters.oidc import DiscoveryKeySource
from meter.adapters.spool import FileSpool
from meter.config.stored.address import Documents
from meter.config.values import GatewaySettings
from meter.gateway.caller.auth import TokenVerifier
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.joining.joins import JoinLimits, Joins
from meter.gateway.limits.admission import Admission, AdmissionLimits
from meter.gateway.operators.page import OperatorPage
from meter.gateway.own_usage import OwnUsage
from meter.gateway.request.dispatch import Dispatcher
from meter.ports import Clock, RowStore
from meter.reports.pricing.configured import ConfiguredBook
from meter.wiring.stored.late import LateReader

KEPT_PART = 4  # of the room for request bodies


class Surroundings(Struct, frozen=True, kw_only=True):
    """The app's settings as they are now, and what the blobs held that its first ones were read from."""

    environment: Callable[[], Mapping[str, str]]
    documents: Documents = field(default_factory=dict)


def build_keys(settings: GatewaySettings, clock: Clock) -> KeyRing:
    """The keys of all issuers."""
    source = DiscoveryKeySource(settings.discovery_queries)
    return KeyRing(source, clock, settings.jwks_refresh_seconds)


def build_admission(settings: GatewaySettings, keys: KeyRing, clock: Clock) -> Admission:
    """The entrance of one instance."""
    return Admission(
        verifier=TokenVerifier(settings.rules, keys, clock),
        limits=settings.limits.admission,
        new_spool=FileSpool,
    )


def build_joins(settings: GatewaySettings, clock: Clock) -> Joins:
    """What repeated requests can join."""
    limits = join_limits(settings.limits.admission) if settings.joins_retries else None
    return Joins(clock=clock, limits=limits)


def join_limits(admission: AdmissionLimits) -> JoinLimits:
    """The bounds on joining, which follow those on calls and their bodies."""
    return JoinLimits(
        most_joined=admission.max_concurrent_calls,
        kept_bytes=admission.body_budget_bytes // KEPT_PART,
        subject_share_percent=admission.subject_share_percent,
    )


def build_dispatcher(
    settings: GatewaySettings,
    store: RowStore,
    book: ConfiguredBook,
    operators: OperatorPage | None,
    clock: Clock,
) -> Dispatcher:
    """What is done with requests, before any backend."""
    return Dispatcher(
        routes=settings.routes,
        own_usage=OwnUsage(reader=LateReader(store, book, clock), clock=clock),
        opencode=settings.opencode,
        operators=operators,
    )


def build_operators(
    settings: GatewaySettings, keys: KeyRing, surroundings: Surroundings, clock: Clock
) -> OperatorPage | None:
    """The operators' page, if there is one. Their role is all they need, and no caller's role opens it."""
    if settings.operator_role is None:
        return None
    role = frozenset({settings.operator_role})
    rules = replace(settings.rules, required_roles=role, required_scopes=frozenset())
    return OperatorPage(
        verifier=TokenVerifier(rules, keys, clock),
        examine=lambda: _examine(surroundings.environment()),
        clock=clock,
    )


async def _examine(environment: Mapping[str, str]) -> Mapping[str, object]:
    # What it asks with, the blobs' SDK among it, is no part of a cold start.
    from meter.wiring.doctor.examine import examine

    return (await examine(environment, on_app=True)).document()
