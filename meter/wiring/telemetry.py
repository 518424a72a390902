"""Builds what observes calls and counting."""

from collections.abc import Mapping, Sequence

from meter.adapters.clock import SystemClock
from meter.adapters.functions.call_log import CallLog
from meter.config.telemetry.settings import telemetry_settings
from meter.ports import CountObserver


def count_observers(environment: Mapping[str, str]) -> Sequence[CountObserver]:
    """What an aggregator tells of its counting."""
    settings = telemetry_settings(environment)
    return [CallLog(SystemClock())] if settings.logs_calls else []
