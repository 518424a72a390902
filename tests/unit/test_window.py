"""UTC windows: names, boundaries, and what is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from meter.window import Period, Window, parse_window, window_of, windows_of


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]  # year, month, day, ...


@pytest.mark.parametrize(
    ("period", "name"),
    [(Period.HOUR, "2026-11-23T07"), (Period.DAY, "2026-11-23"), (Period.MONTH, "2026-11")],
)
def test_a_window_is_named_by_its_beginning(period: Period, name: str) -> None:
    """The name is the moment, cut to the length of the window."""
    window = window_of(utc(2026, 11, 23, 7, 59, 59, 999_999), period)

    assert window == Window(name)
    assert window.period is period


def test_a_moment_is_in_its_hour_its_day_and_its_month() -> None:
    """Every call counts in exactly three windows."""
    windows = windows_of(utc(2026, 1, 2, 3))

    assert windows == (Window("2026-01-02T03"), Window("2026-01-02"), Window("2026-01"))


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (datetime(2026, 12, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))), "2026-11"),
        (datetime(2026, 11, 30, 23, 0, tzinfo=timezone(timedelta(hours=-3))), "2026-12"),
        (datetime(2026, 12, 1, 5, 44, tzinfo=timezone(timedelta(hours=5, minutes=45))), "2026-11"),
    ],
)
def test_offsets_are_turned_into_utc_first(moment: datetime, month: str) -> None:
    """A moment belongs to a window by its UTC time, whatever offset it is written with."""
    windows = windows_of(moment)

    assert windows[2].name == month
    assert window_of(moment, Period.MONTH).name == month


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("2026-11-23T07", utc(2026, 11, 23, 7), utc(2026, 11, 23, 8)),
        ("2026-12-31T23", utc(2026, 12, 31, 23), utc(2027, 1, 1)),
        ("2026-02-28", utc(2026, 2, 28), utc(2026, 3, 1)),
        ("2028-02-28", utc(2028, 2, 28), utc(2028, 2, 29)),
        ("2028-02-29", utc(2028, 2, 29), utc(2028, 3, 1)),
        ("2100-02-28", utc(2100, 2, 28), utc(2100, 3, 1)),
        ("2026-01", utc(2026, 1, 1), utc(2026, 2, 1)),
        ("2028-02", utc(2028, 2, 1), utc(2028, 3, 1)),
        ("2026-12", utc(2026, 12, 1), utc(2027, 1, 1)),
    ],
)
def test_a_window_ends_where_the_next_begins(name: str, start: datetime, end: datetime) -> None:
    """Leap years, month ends and year ends included."""
    window = parse_window(name)

    assert (window.start, window.end) == (start, end)


def test_a_windows_last_microsecond_is_inside_and_its_end_is_not() -> None:
    """Windows are half open."""
    before, after = utc(2028, 2, 29, 23, 59, 59, 999_999), utc(2028, 3, 1)
    names = [window_of(moment, Period.DAY).name for moment in (before, after)]

    assert names == ["2028-02-29", "2028-03-01"]


def test_names_sort_by_time() -> None:
    """Windows of one length have the order of their names, so that ranges of names are ranges of time."""
    names = ["2027-01-01T00", "2026-12-31T23", "2026-02-01T10", "2026-10-01T02"]
    ordered = sorted(map(Window, names))

    assert [window.name for window in ordered] == [
        "2026-02-01T10",
        "2026-10-01T02",
        "2026-12-31T23",
        "2027-01-01T00",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2026",
        "2026-1",
        "2026-13",
        "2026-00",
        "0000-01",
        "2026-02-29",
        "2026-11-31",
        "2026-11-23T24",
        "2026-11-23T7",
        "2026-11-23 07",
        "2026-11-23T07:00",
        "2026-11-23T07Z",
        "2026-11-23T",
        " 2026-11",
        "2026-11\n",
        "２０２６-11",
        "20261123",
        "yesterday",
    ],
)
def test_anything_but_a_window_is_refused_with_the_accepted_forms(name: str) -> None:
    """A refusal names the forms that are accepted and shows what it got."""
    with pytest.raises(ValueError, match="YYYY-MM, YYYY-MM-DD or YYYY-MM-DDTHH") as refusal:
        parse_window(name)

    assert repr(name) in str(refusal.value)
