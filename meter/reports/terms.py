"""The terms of a reconciliation: its hours, its tolerance, and what it ignores."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from meter.errors import MonitorUnavailable
from meter.reports.query import Grouping, Query, check_order, query_between
from meter.window import Period, Window, window_of

# Metrics arrive minutes late, and an event may wait in the outbox.
SETTLING = timedelta(hours=1)
# https://learn.microsoft.com/azure/azure-monitor/metrics/data-platform-metrics#retention-of-metrics
METRICS_KEPT = timedelta(days=93)
GROUPS = (Grouping.BACKEND, Grouping.DEPLOYMENT, Grouping.TIER)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is compared, and when it agrees.

    `query` is in hours. `tolerance` is the share of Azure's tokens by which a deployment may
    differ. `ignored` are own names, in lower case, that others may call. `notes` say how the range
    was cut.
    """

    query: Query
    tolerance: Fraction
    ignored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def make_terms(
    *,
    first: Window | None,
    last: Window | None,
    tolerance: Fraction,
    ignored: frozenset[str],
    now: datetime,
) -> Terms:
    """The terms for all hours from the start of `first` to the end of `last` that Azure Monitor has.

    With neither, they are those of yesterday; with `last` alone, those of `last`; with `first`
    alone, those up to the newest complete hour. Raises ValueError for a start after the end,
    MonitorUnavailable for a range without complete hours.
    """
    settled = window_of(now - SETTLING, Period.HOUR).start
    oldest = window_of(now - METRICS_KEPT + _HOUR, Period.HOUR).start
    named = last or first or window_of(now - timedelta(days=1), Period.DAY)
    if first and last:
        check_order(first, last)
    start = (first or named).start
    end = settled if first and not last else named.end
    notes = []
    if end > settled:
        end = settled
        notes.append(f"hours from {_hour(settled)} on are left out: they are not complete yet")
    if start < oldest:
        start = oldest
        notes.append(f"hours before {_hour(oldest)} are left out: metrics are kept for 93 days")
    if start >= end:
        raise MonitorUnavailable(
            f"Azure Monitor has complete hours from {_hour(oldest)} to {_hour(settled - _HOUR)} only"
        )
    return Terms(
        query=query_between(start, end, Period.HOUR, GROUPS),
        tolerance=tolerance,
        ignored=ignored,
        notes=tuple(notes),
    )


def parse_tolerance(text: str) -> Fraction:
    """Read a percentage as a share. Raises ValueError that says what is accepted."""
    try:
        percent = Fraction(text.strip().removesuffix("%").strip())
    except (ValueError, ZeroDivisionError):
        percent = Fraction(-1)
    if not 0 <= percent <= 100:
        raise ValueError(f"a tolerance is a percentage from 0 to 100, like 0.5%; got {text!r}")
    return percent / 100


def parse_names(text: str) -> frozenset[str]:
    """Read a comma-separated list of own names, in any case."""
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())


def _hour(moment: datetime) -> str:
    return window_of(moment, Period.HOUR).name
