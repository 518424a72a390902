"""Reads what telemetry has exported in memory."""

from collections.abc import Mapping
from copy import replace
from dataclasses import dataclass, field

from opentelemetry.sdk.metrics import Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meter.adapters.telemetry.distributions import Adding
from meter.adapters.telemetry.monitoring import OpenTelemetryMonitoring
from meter.adapters.telemetry.providers import providers_of
from meter.config.telemetry.settings import Exporter, TelemetrySettings
from meter.ports import Clock
from tests.fakes.gateway import FakeClock

SETTINGS = TelemetrySettings(exporter=Exporter.OTLP)
WITH_SUBJECTS = replace(SETTINGS, names_subjects=True)

type Attributes = Mapping[str, object]
type Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint


class MemoryReader(Adding, InMemoryMetricReader):
    """The SDK's reader for tests, with our histograms."""


@dataclass
class Exported:
    """Monitoring whose exports stay in memory."""

    settings: TelemetrySettings = SETTINGS
    has_traces: bool = True
    clock: Clock = field(default_factory=FakeClock)
    is_delta: bool = False

    def __post_init__(self) -> None:
        wanted: dict[type, AggregationTemporality] = (
            {Histogram: AggregationTemporality.DELTA} if self.is_delta else {}
        )
        self._reader, self._spans = MemoryReader(wanted), InMemorySpanExporter()
        processors = [SimpleSpanProcessor(self._spans)] if self.has_traces else []
        self.providers = providers_of(self.settings, [self._reader], [*processors])
        self.monitoring = OpenTelemetryMonitoring(self.providers, self.settings, clock=self.clock)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended."""
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[tuple[Attributes, float]]:
        """A metric's attributes and values; of a histogram the sums."""
        return [(dict(point.attributes or {}), _value(point)) for point in self.raw_points(name)]

    def raw_points(self, name: str) -> list[Point]:
        """A metric's points as the SDK has them."""
        found = [metric for metric in self.metrics() if metric.name == name]
        return [point for metric in found for point in metric.data.data_points]

    def metrics(self) -> list[Metric]:
        """What an export would send."""
        data = self._reader.get_metrics_data()
        scopes = [] if data is None else [s for r in data.resource_metrics for s in r.scope_metrics]
        return [metric for scope in scopes for metric in scope.metrics]


def _value(point: Point) -> float:
    if isinstance(point, NumberDataPoint):
        return point.value
    return point.sum
