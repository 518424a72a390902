"""UTC windows: the hour, day and month a call counts in, named so that names sort by time."""

import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from meter.patterns import lazy_pattern


class Period(StrEnum):
    """The lengths of window that are summed."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Window(NamedTuple):  # hashed for every sum of every event, which a tuple does fast
    """One window by its name: `2026-11-23T07`, `2026-11-23` or `2026-11`."""

    name: str

    @property
    def period(self) -> Period:
        """The window's length, derived from the length of its name."""
        return _PERIOD_BY_NAME_LENGTH[len(self.name)]

    @property
    def month(self) -> "Window":
        """The month that the window is in, or is."""
        return Window(self.name[:7])

    @property
    def start(self) -> datetime:
        """The window's first moment."""
        return _start_of(self.name)

    @property
    def end(self) -> datetime:
        """The first moment after the window."""
        start = self.start
        match self.period:
            case Period.HOUR:
                return start + timedelta(hours=1)
            case Period.DAY:
                return start + timedelta(days=1)
            case Period.MONTH:
                return (start + timedelta(days=32)).replace(day=1)


_FORMATS = {Period.HOUR: "%Y-%m-%dT%H", Period.DAY: "%Y-%m-%d", Period.MONTH: "%Y-%m"}
_PERIOD_BY_NAME_LENGTH = {13: Period.HOUR, 10: Period.DAY, 7: Period.MONTH}
_NAME = lazy_pattern(r"[2-9]\d{3}-\d\d(-\d\d(T\d\d)?)?", re.ASCII)


@lru_cache(maxsize=4_096)
def _start_of(name: str) -> datetime:
    form = _FORMATS[_PERIOD_BY_NAME_LENGTH[len(name)]]
    return datetime.strptime(name, form).replace(tzinfo=UTC)


def window_of(moment: datetime, period: Period) -> Window:
    """The window of that length that contains the moment."""
    return Window(moment.astimezone(UTC).strftime(_FORMATS[period]))


def windows_of(moment: datetime) -> tuple[Window, Window, Window]:
    """The hour, the day and the month that contain the moment."""
    # By its parts: a difference of two times takes seven times as long, and this runs for every event.
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return _windows_of_hour(utc.toordinal(), utc.hour)


@lru_cache(maxsize=2_048)
def _windows_of_hour(ordinal: int, hour: int) -> tuple[Window, Window, Window]:
    day = date.fromordinal(ordinal).isoformat()
    return Window(f"{day}T{hour:02}"), Window(day), Window(day[:7])


def parse_window(name: str) -> Window:
    """Parse a window's name. Raises ValueError that says what is accepted."""
    window = Window(name)
    try:
        if not _NAME.fullmatch(name):
            raise ValueError
        _ = window.end
    except (ValueError, OverflowError):
        raise ValueError(
            f"a time is YYYY-MM, YYYY-MM-DD or YYYY-MM-DDTHH in UTC from 2000 on, got {name!r}"
        ) from None
    return window
