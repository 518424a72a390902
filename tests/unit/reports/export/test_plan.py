"""Which months a night writes: those that may change, and those that were closed."""

from datetime import UTC, datetime, timedelta

import pytest

from meter.errors import ExportRefused
from meter.reports.export.layout import Encoding, Kind, path_of
from meter.reports.export.manifest import Entry, Manifest
from meter.reports.export.plan import MOST_MONTHS, MonthPlan, due_months, month_asked
from meter.window import Window

NOW = datetime(2026, 11, 24, 2, 15, tzinfo=UTC)
AUGUST, OCTOBER, NOVEMBER = Window("2026-08"), Window("2026-10"), Window("2026-11")


def manifest(*months: tuple[str, bool]) -> Manifest:
    """The manifest of months, each final or not."""
    files = [
        Entry(
            path=path_of(Kind.MONTH, Window(month), Encoding.CSV),
            kind=Kind.MONTH,
            first=f"{month}-01",
            last=f"{month}-28",
            rows=1,
            bytes=1,
            sha256="0",
            final=final,
            written_at="2026-11-01T00:00:00.000Z",
            currency=None,
            totals={},
        )
        for month, final in months
    ]
    return Manifest(
        as_of="2026-11-01T00:00:00.000Z",
        complete_to=None,
        encoding=Encoding.CSV,
        currency=None,
        sources=[],
        caught_up=[],
        failed=[],
        files=files,
    )


def due(
    *, now: datetime = NOW, days: int = 100, closed: tuple[Window, ...] = (), before: object = None
) -> list[MonthPlan]:
    assert before is None or isinstance(before, Manifest)
    return due_months(now=now, retention=timedelta(days=days), closed=closed, manifest=before)


def names(plans: list[MonthPlan]) -> list[str]:
    return [plan.month.name for plan in plans]


def test_a_month_is_due_as_long_as_late_calls_may_count() -> None:
    """Of retention's 100 days before the 24th of November, the first are in August."""
    assert names(due()) == ["2026-08", "2026-09", "2026-10", "2026-11"]


def test_the_running_month_is_due_whatever_the_retention() -> None:
    """With a retention of a day too; the month before may still change on the first day of one."""
    assert names(due(days=1)) == ["2026-11"]
    assert names(due(days=1, now=datetime(2026, 12, 1, 2, tzinfo=UTC))) == ["2026-11", "2026-12"]


def test_a_long_retention_is_not_read_every_night() -> None:
    """Of ten years, the last 13 months."""
    assert len(due(days=3_660)) == MOST_MONTHS


def test_a_final_month_is_never_due_again() -> None:
    """The manifest says so, and nothing else does."""
    plans = due(closed=(OCTOBER,), before=manifest(("2026-10", True)))

    assert names(plans) == ["2026-08", "2026-09", "2026-11"]


def test_a_closed_month_is_due_once_as_final() -> None:
    """Also one that was closed long after its last call could count."""
    plans = due(closed=(Window("2025-02"), OCTOBER), before=manifest(("2025-02", False)))

    assert [plan.month.name for plan in plans if plan.is_final] == ["2025-02", "2026-10"]


def test_only_finished_days_have_files() -> None:
    """The day that runs has none, and on the first of a month there is none yet."""
    first = due(now=datetime(2026, 12, 1, 2, 15, tzinfo=UTC))[-1]

    assert [day.name for day in due()[-1].days()][-1] == "2026-11-23"
    assert list(first.days()) == []


def test_a_month_settles_a_week_after_its_end() -> None:
    """Until then repairs of views may still come."""
    plans = due(now=datetime(2026, 12, 7, 2, 15, tzinfo=UTC))

    assert [plan.month.name for plan in plans if not plan.is_settled] == [
        "2026-11",
        "2026-12",
    ]


def test_any_month_can_be_asked_for() -> None:
    """Older ones too, and they are written without any calls."""
    plan = month_asked(Window("2024-01"), now=NOW, closed=(), manifest=None)

    assert plan is not None
    assert plan.is_asked
    assert plan.last_day == Window("2024-01-31")


@pytest.mark.parametrize("wanted", ["2026-11-24", "2026-12-01", "2026-12"])
def test_what_is_not_over_or_has_not_begun_is_refused(wanted: str) -> None:
    """A day is written once it is over; a month from its first day on."""
    with pytest.raises(ExportRefused, match=wanted):
        month_asked(Window(wanted), now=NOW, closed=(), manifest=None)


def test_a_final_month_that_is_asked_for_is_left_alone() -> None:
    """Neither it nor a day of it is written again."""
    before = manifest(("2026-10", True))
    asked = [
        month_asked(Window(wanted), now=NOW, closed=(OCTOBER,), manifest=before)
        for wanted in ("2026-10", "2026-10-20")
    ]

    assert asked == [None, None]
