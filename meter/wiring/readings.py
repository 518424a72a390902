"""What telemetry reads now and then of a front door: all of it is there anyway."""

from collections.abc import Iterator

from meter.adapters.telemetry import conventions as names
from meter.adapters.telemetry.gauges import Gauge, Readings
from meter.gateway.balance.pool import Pool
from meter.gateway.front_door import FrontDoor
from meter.gateway.limits.quota import Quota
from meter.publishing.sink import PublishingSink


def gauges_of(front_door: FrontDoor, sink: PublishingSink) -> list[Gauge]:
    """The gauges of a front door and its sink."""
    pool = front_door.instance.forwarder.pool
    admission, drains = front_door.admission, front_door.relays.drains
    return [
        Gauge(names.CIRCUIT_OPEN, "1", lambda: _circuits(pool)),
        Gauge(names.ACTIVE_CALLS, "{call}", lambda: _active(pool)),
        *_quota(names.SLOTS, "{call}", admission.slots),
        *_quota(names.DRAINS, "{call}", drains.quota),
        *_quota(names.BODY_BUDGET, "By", admission.body_bytes),
        Gauge(names.PENDING, "{event}", lambda: [(sink.pending, {})]),
        Gauge(names.UNPUBLISHED, "{event}", lambda: [(sink.unpublished, {})], is_total=True),
        Gauge(names.HUB_CIRCUIT_OPEN, "1", lambda: [(int(sink.is_hub_circuit_open), {})]),
    ]


def url_of(front_door: FrontDoor, backend: str) -> str | None:
    """A backend's address; None for one that is gone."""
    return next(
        (b.url for b in front_door.instance.forwarder.pool.backends if b.name == backend), None
    )


def _quota(name: str, unit: str, quota: Quota) -> Iterator[Gauge]:
    yield Gauge(f"{name}.used", unit, lambda: [(quota.used, {})])
    yield Gauge(f"{name}.limit", unit, lambda: [(quota.total, {})])


def _circuits(pool: Pool) -> Readings:
    now = pool.clock.monotonic()
    for load_key, target in pool.targets():
        yield int(target.is_open(now)), _attributes(load_key, target.backend.name)


def _active(pool: Pool) -> Readings:
    for load_key, target in pool.targets():
        yield target.load.in_flight, _attributes(load_key, target.backend.name)


def _attributes(load_key: str, backend: str) -> dict[str, str]:
    return {names.BACKEND: backend, names.DEPLOYMENT: load_key}
