"""Reads what is told of calls, and to whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from meter.config.reader import Reader


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What is told of calls."""

    logs_calls: bool = True


def read_telemetry(reader: Reader) -> TelemetrySettings:
    """The settings. Problems are reported."""
    return TelemetrySettings(
        logs_calls=reader.choice("METER_CALL_LOG", Switch.ON) is Switch.ON,
    )


def telemetry_settings(environment: Mapping[str, str]) -> TelemetrySettings:
    """The settings; the default for each that is invalid."""
    return read_telemetry(Reader(environment))
