"""The settings of telemetry and of the call log."""

import pytest

from meter.config.environment import load_settings
from meter.config.telemetry.settings import Exporter, missing_extra, telemetry_settings
from meter.errors import InvalidSettings
from tests.unit.config.test_environment import REQUIRED

CONNECTION = {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=k"}


def test_only_the_call_log_is_on_by_default() -> None:
    """Telemetry needs packages and a receiver; the log needs nothing."""
    settings = load_settings(REQUIRED).telemetry

    assert settings.exporter is Exporter.OFF
    assert (settings.logs_calls, settings.names_subjects) == (True, False)


def test_all_that_is_set_is_used() -> None:
    """The standard's variables where there are some."""
    settings = telemetry_settings(
        {
            **CONNECTION,
            "METER_TELEMETRY": "azure-monitor",
            "METER_TELEMETRY_SUBJECTS": "true",
            "METER_CALL_LOG": "off",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_TRACES_SAMPLER": "always_on",
            "WEBSITE_SITE_NAME": "meter-func",
        }
    )

    assert settings.exporter is Exporter.AZURE_MONITOR
    assert (settings.names_subjects, settings.logs_calls) == (True, False)
    assert (settings.exports_metrics, settings.exports_traces) == (False, False)
    assert (settings.has_sampler, settings.service) == (True, "meter-func")
    assert "InstrumentationKey" not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"METER_TELEMETRY": "on"}, "METER_TELEMETRY must be one of off, otlp, azure-monitor"),
        ({"METER_TELEMETRY": "azure-monitor"}, "which needs APPLICATIONINSIGHTS_CONNECTION_STRING"),
        (
            {"METER_TELEMETRY": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, got 'grpc'",
        ),
        ({"METER_CALL_LOG": "true"}, "METER_CALL_LOG must be one of on, off, got 'true'"),
        ({"METER_TELEMETRY_SUBJECTS": "on"}, "METER_TELEMETRY_SUBJECTS must be true or false"),
        ({"METER_TELEMETRIE": "otlp"}, "did you mean METER_TELEMETRY?"),
    ],
)
def test_what_cannot_be_meant_is_told(changes: dict[str, str], problem: str) -> None:
    """With what is accepted; parts that need no telemetry go on with the default."""
    with pytest.raises(InvalidSettings) as raised:
        load_settings(REQUIRED | changes)

    assert [problem in text for text in raised.value.problems] == [True]
    assert telemetry_settings(changes).logs_calls is True


def test_nothing_is_missing_where_telemetry_is_off_or_installed() -> None:
    """Developers have both extras."""
    assert [missing_extra(exporter) for exporter in Exporter] == [None, None, None]
