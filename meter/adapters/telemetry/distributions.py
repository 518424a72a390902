"""Histograms that every call records into, and their way into the SDK's exports.

The SDK's own histograms take tens of microseconds per measure, mostly for attributes; a call makes four
or more. These take one or two: a dictionary finds the point by its attributes, which are a tuple. With
each collection they are added to what the SDK has collected, in its own classes, with its rules: upper
bounds belong to their bucket, at most `MOST_POINTS` sets of attributes, then one point for all others.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from copy import replace
from dataclasses import dataclass, field
from threading import Lock
from time import time_ns
from typing import Any

from opentelemetry.sdk.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

MOST_POINTS = 2_000
OVERFLOW = (("otel.metric.overflow", True),)

type Attributes = tuple[tuple[str, str | int], ...]


@dataclass(slots=True)
class _Point:
    counts: list[int]
    begun: int
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0


@dataclass(slots=True)
class Distribution:
    """One histogram. `record` may be called in any thread."""

    name: str
    unit: str
    boundaries: Sequence[float]
    _points: dict[Attributes, _Point] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def record(self, value: float, attributes: Attributes) -> None:
        """Add a measure."""
        with self._lock:
            point = self._points.get(attributes) or self._new(value, attributes)
            point.counts[bisect_left(self.boundaries, value)] += 1
            point.total += value
            if value < point.least:
                point.least = value
            elif value > point.most:
                point.most = value

    def _new(self, value: float, attributes: Attributes) -> _Point:
        if len(self._points) >= MOST_POINTS:
            attributes = OVERFLOW
        counts = [0] * (len(self.boundaries) + 1)
        point = _Point(counts, time_ns(), least=value, most=value)
        return self._points.setdefault(attributes, point)

    def collect(self, temporality: AggregationTemporality) -> Metric | None:
        """All since the beginning or, by delta, since the last collection; None if that is nothing."""
        now = time_ns()
        with self._lock:
            points = [
                HistogramDataPoint(
                    attributes=dict(attributes),
                    start_time_unix_nano=point.begun,
                    time_unix_nano=now,
                    count=sum(point.counts),
                    sum=point.total,
                    bucket_counts=tuple(point.counts),
                    explicit_bounds=tuple(self.boundaries),
                    min=point.least,
                    max=point.most,
                )
                for attributes, point in self._points.items()
            ]
            if temporality is AggregationTemporality.DELTA:
                self._points.clear()
        if not points:
            return None
        return Metric(self.name, "", self.unit, Histogram(points, temporality))


@dataclass(slots=True)
class Distributions:
    """The histograms of one process. They are exported beside something of the SDK's own, never alone."""

    scope: InstrumentationScope
    _made: list[Distribution] = field(default_factory=list)

    def histogram(self, name: str, unit: str, boundaries: Sequence[float]) -> Distribution:
        """A new one."""
        made = Distribution(name, unit, boundaries)
        self._made.append(made)
        return made

    def added_to(self, data: MetricsData, temporality: AggregationTemporality) -> MetricsData:
        """What the SDK has collected, and these."""
        metrics = [each for made in self._made if (each := made.collect(temporality)) is not None]
        if not metrics or not data.resource_metrics:
            return data
        own = ScopeMetrics(self.scope, metrics, "")
        first, *others = data.resource_metrics
        scopes = tuple(_merged([*first.scope_metrics, own]))
        return replace(data, resource_metrics=[replace(first, scope_metrics=scopes), *others])


def _merged(scopes: Sequence[ScopeMetrics]) -> Iterator[ScopeMetrics]:
    """Those of one name as one."""
    by_name: dict[str, ScopeMetrics] = {}
    for each in scopes:
        known = by_name.get(each.scope.name)
        metrics = each.metrics if known is None else [*known.metrics, *each.metrics]
        by_name[each.scope.name] = replace(known or each, metrics=metrics)
    yield from by_name.values()


class Adding(MetricReader):
    """A reader that adds our histograms to what it collects."""

    distributions: Distributions | None = None

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> None:
        if self.distributions is not None:
            wanted = (self._preferred_temporality or {}).get(
                Instrument, AggregationTemporality.CUMULATIVE
            )
            metrics_data = self.distributions.added_to(metrics_data, wanted)
        super()._receive_metrics(metrics_data, timeout_millis, **options)  # type: ignore[safe-super]  # the next reader's


class PeriodicReader(Adding, PeriodicExportingMetricReader):
    """The SDK's reader that exports now and then, with our histograms."""
