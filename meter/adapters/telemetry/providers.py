"""The SDK's providers, with the exporters that the settings name.

They are the app's own: nothing is made global, so no library's spans are exported. The SDK reads the
`OTEL_*` variables itself. No log record is exported by any of them.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from meter.adapters.telemetry.distributions import Adding, Distributions, PeriodicReader
from meter.config.telemetry.settings import Exporter, TelemetrySettings

# The Functions host marks calls that come without a trace as not sampled: the SDK's own default would
# drop them all. A span takes as long as most of a call, half of it for its export.
SHARE = 0.02
SCOPE = "aoai-meter"
_SHARE_OF_IDS = round(SHARE * 2**56)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Providers:
    """Where instruments and spans are made; `traces` is None where nothing takes spans."""

    metrics: MeterProvider
    distributions: Distributions
    traces: TracerProvider | None

    def close(self, seconds: float) -> None:
        """Export what waits, in about that time. Blocks."""
        milliseconds = int(seconds * 1000)
        if self.traces is not None:
            self.traces.force_flush(milliseconds)
            self.traces.shutdown()
        self.metrics.shutdown(timeout_millis=milliseconds)


def build_providers(settings: TelemetrySettings) -> Providers:
    """Providers that export as the settings say."""
    readers: list[Adding] = []
    processors: list[SpanProcessor] = []
    if settings.exports_metrics:
        metrics = _metric_exporter(settings)
        _watch(metrics, "metrics")
        readers.append(PeriodicReader(metrics))
    if settings.exports_traces:
        spans = _span_exporter(settings)
        _watch(spans, "traces")
        processors.append(BatchSpanProcessor(spans))
    return providers_of(settings, readers, processors)


def providers_of(
    settings: TelemetrySettings, readers: list[Adding], processors: list[SpanProcessor]
) -> Providers:
    """Providers with these readers and processors."""
    resource = _resource(settings)
    distributions = Distributions(InstrumentationScope(SCOPE))
    for reader in readers:
        reader.distributions = distributions
    metrics = MeterProvider(
        readers, resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
    )
    if not processors:
        return Providers(metrics, distributions, None)
    # What `samples` left out has no span at all, so the SDK need not decide again.
    sampler = None if settings.has_sampler else ALWAYS_ON
    traces = TracerProvider(sampler, resource, shutdown_on_exit=False)
    for processor in processors:
        traces.add_span_processor(processor)
    return Providers(metrics, distributions, traces)


def samples(parent: str | None) -> bool:
    """Whether a call gets a span: if its caller samples, else one in fifty, by chance.

    The chance is in the trace's id, so that every service decides alike (W3C Trace Context Level 2,
    random trace ids).
    """
    if parent is None:
        return int.from_bytes(os.urandom(7)) < _SHARE_OF_IDS
    is_sampled = int(parent[53:55], 16) & 1
    return bool(is_sampled) or int(parent[21:35], 16) < _SHARE_OF_IDS


def _metric_exporter(settings: TelemetrySettings) -> MetricExporter:
    if settings.exporter is Exporter.OTLP:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter()
    from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter

    return AzureMonitorMetricExporter(
        connection_string=settings.connection_string, disable_offline_storage=True
    )


def _span_exporter(settings: TelemetrySettings) -> SpanExporter:
    if settings.exporter is Exporter.OTLP:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

    return AzureMonitorTraceExporter(
        connection_string=settings.connection_string, disable_offline_storage=True
    )


def _resource(settings: TelemetrySettings) -> Resource:
    """This process. Names that `OTEL_*` variables give win."""
    own = Resource({"service.name": settings.service, "service.instance.id": uuid4().hex})
    given = Resource.create()
    is_named = not str(given.attributes["service.name"]).startswith("unknown_service")
    return own.merge(given) if is_named else given.merge(own)


def _watch(exporter: MetricExporter | SpanExporter, signal: str) -> None:
    """Have a line in the log when exports begin to fail, and when they succeed again."""
    export: Callable[..., Enum] = exporter.export
    is_failing = False

    def watched(*arguments: Any, **options: Any) -> Enum:
        nonlocal is_failing
        result = export(*arguments, **options)
        has_failed = result.name != "SUCCESS"
        if has_failed and not is_failing:
            log.warning("telemetry_export_failed signal=%s", signal)
        elif is_failing and not has_failed:
            log.warning("telemetry_exported_again signal=%s", signal)
        is_failing = has_failed
        return result

    exporter.export = watched  # type: ignore[assignment, method-assign]  # around any exporter's
