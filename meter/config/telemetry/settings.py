"""Reads what is told of calls, and to whom. OpenTelemetry's own `OTEL_*` are read by its SDK."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec

from meter.config.reader import Reader

SETTING = "METER_TELEMETRY"
CONNECTION = "APPLICATIONINSIGHTS_CONNECTION_STRING"
PROTOCOL = "http/protobuf"
SERVICE = "aoai-meter"


class Exporter(StrEnum):
    """Where metrics and traces go; the name of the extra that this needs."""

    OFF = "off"
    OTLP = "otlp"
    AZURE_MONITOR = "azure-monitor"


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


_MODULES = {
    Exporter.OTLP: "opentelemetry.exporter.otlp.proto.http",
    Exporter.AZURE_MONITOR: "azure.monitor.opentelemetry.exporter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What is told of calls. Spans name subjects only if `names_subjects`."""

    exporter: Exporter = Exporter.OFF
    exports_metrics: bool = True
    exports_traces: bool = True
    has_sampler: bool = False
    names_subjects: bool = False
    connection_string: str | None = field(default=None, repr=False)
    service: str = SERVICE
    logs_calls: bool = True


def read_telemetry(reader: Reader) -> TelemetrySettings:
    """The settings. Problems are reported."""
    exporter = reader.choice(SETTING, Exporter.OFF)
    if exporter is Exporter.AZURE_MONITOR and not reader.text(CONNECTION):
        reader.problem(SETTING, f"is azure-monitor, which needs {CONNECTION}")
    protocol = reader.text("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL)
    if exporter is Exporter.OTLP and protocol != PROTOCOL:
        reader.problem("OTEL_EXPORTER_OTLP_PROTOCOL", f"must be {PROTOCOL}, got {protocol!r}")
    return TelemetrySettings(
        exporter=exporter,
        exports_metrics=reader.text("OTEL_METRICS_EXPORTER") != "none",
        exports_traces=reader.text("OTEL_TRACES_EXPORTER") != "none",
        has_sampler=bool(reader.text("OTEL_TRACES_SAMPLER")),
        connection_string=reader.text(CONNECTION) or None,
        service=reader.text("WEBSITE_SITE_NAME", SERVICE),
        names_subjects=reader.flag("METER_TELEMETRY_SUBJECTS"),
        logs_calls=reader.choice("METER_CALL_LOG", Switch.ON) is Switch.ON,
    )


def telemetry_settings(environment: Mapping[str, str]) -> TelemetrySettings:
    """The settings; the default for each that is invalid."""
    return read_telemetry(Reader(environment))


def missing_extra(exporter: Exporter) -> str | None:
    """Why an exporter cannot be used, in a line, if its packages are not installed."""
    if exporter is Exporter.OFF or _is_installed(_MODULES[exporter]):
        return None
    return (
        f"{SETTING} is {exporter}, which needs packages that are not installed: "
        f"pip install 'aoai-meter[{exporter}]'"
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # a package that it is in is missing
        return False
