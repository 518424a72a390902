"""What events change: the open hour in its month's row, a later one closes it, a late one leaves it."""

from datetime import datetime, timedelta

from meter.ledger.fold import entries_of
from meter.ledger.keys import SumKey
from meter.ledger.packing.adding import Change, Opened, changed
from meter.ledger.packing.packed import Known, Packed, nothing_open
from meter.usage import UsageEvent
from meter.window import windows_of
from tests.support.events import NOW, usage_event
from tests.support.ledger import dimensions

HOUR = timedelta(hours=1)


def at(*hours: int) -> list[UsageEvent]:
    return [usage_event(n, time=NOW + HOUR * hour) for n, hour in enumerate(hours, 1)]


def change_of(events: list[UsageEvent], before: Packed | None = None) -> Change:
    known = {} if before is None else {before.row.key: Known("e", before)}
    return changed((entry for e in events for entry in entries_of(e.subject, e)), known)


def after(*hours: int) -> Packed:
    [(packed, _)] = change_of(at(*hours)).months
    return packed


def names(change: Change) -> dict[str, int]:
    return {key.window.name: row.sums.calls for key, row in change.sums.items()}


def opened(change: Change) -> tuple[str, str]:
    [(packed, _)] = change.months
    assert packed.day is not None
    assert packed.hour is not None
    return packed.day.key.window.name, packed.hour.key.window.name


def test_a_call_of_the_open_hour_changes_one_row() -> None:
    """Month, day and hour in it, each with its own revision."""
    change = change_of(at(0, 0), after(0))

    assert names(change) == {"2026-11": 3, "2026-11-23": 3, "2026-11-23T07": 3}
    assert {row.revision for row in change.sums.values()} == {2}
    assert (change.closed, change.late) == ([], {})
    assert [row.etag for _, row in change.written({})] == ["e"]


def test_a_later_hour_closes_the_open_one() -> None:
    """It gets a row of its own as it was; the day stays open."""
    change = change_of(at(1), after(0, 0))
    rows = {row.key.split("|")[1]: row for _, row in change.written({})}

    assert opened(change) == ("2026-11-23", "2026-11-23T08")
    assert names(change) == {"2026-11": 3, "2026-11-23": 3, "2026-11-23T08": 1}
    assert rows.keys() == {"2026-11", "2026-11-23T07"}
    closed = rows["2026-11-23T07"]
    assert (closed.etag, closed.columns["Calls"], closed.columns["Revision"]) == (None, 2, 1)


def test_a_later_day_closes_day_and_hour() -> None:
    """Three rows, once a day."""
    change = change_of(at(24), after(0))

    assert opened(change) == ("2026-11-24", "2026-11-24T07")
    assert [row.key.window.name for row in change.closed] == ["2026-11-23", "2026-11-23T07"]


def test_a_late_call_leaves_what_is_open() -> None:
    """Its hour and its day have rows of their own, or get them."""
    before = after(24)
    change = change_of(at(0), before)
    [(packed, _)] = change.months

    assert (packed.day, packed.hour) == (before.day, before.hour)
    assert {key.window.name for key in change.late} == {"2026-11-23", "2026-11-23T07"}
    own = change.written({})
    assert sorted(row.key.split("|")[1] for _, row in own if row.etag is None) == [
        "2026-11-23",
        "2026-11-23T07",
    ]
    assert names(change) == {"2026-11": 2, "2026-11-23": 1, "2026-11-23T07": 1}


def test_what_is_late_is_added_to_its_row() -> None:
    """With the row's own etag and revision."""
    before = after(1)
    hour = SumKey(windows_of(NOW)[0], dimensions())
    own = Packed(change_of(at(0)).sums[hour])
    change = change_of(at(0), before)
    rows = {row.key: row for _, row in change.written({hour: Known("own", own)})}

    assert change.sums[hour].sums.calls == 2
    assert (rows[hour.row_key].etag, rows[hour.row_key].columns["Revision"]) == ("own", 2)


def test_the_hours_of_a_batch_are_opened_in_their_order() -> None:
    """Whatever the order of its events: all but the latest are closed."""
    change = change_of(at(2, 0, 1, 2, -1), after(0))

    assert opened(change) == ("2026-11-23", "2026-11-23T09")
    assert [row.key.window.name for row in change.closed] == ["2026-11-23T07", "2026-11-23T08"]
    assert [key.window.name for key in change.late] == ["2026-11-23T06"]
    assert change.closed[0].sums.calls == 2


def test_where_nothing_is_open_a_later_hour_opens_without_closing_one() -> None:
    """After a repair; what is not later has a row of its own."""
    before = after(0)
    assert before.hour is not None
    assert before.day is not None
    repaired = Packed(before.row, nothing_open(before.day.key), nothing_open(before.hour.key))
    later, same = change_of(at(1), repaired), change_of(at(0), repaired)

    assert later.closed == same.closed == []
    assert opened(later)[1] == "2026-11-23T08"
    assert {key.window.name for key in later.late} == {"2026-11-23"}
    assert {key.window.name for key in same.late} == {"2026-11-23", "2026-11-23T07"}


def test_rows_are_counted_as_far_as_they_are_remembered() -> None:
    """One for the open hour, and one more for each other hour and day."""
    before = after(0)
    known = {before.row.key: Known("e", before)}

    def rows(hours: list[int], memory: dict[SumKey, Known]) -> int:
        opened_of = Opened(memory.get)
        found: set[SumKey] = set()
        for event in at(*hours):
            found |= opened_of.rows_of(entries_of(event.subject, event))
        return len(found)

    assert rows([0, 0], known) == 1
    assert rows([1], known) == len(change_of(at(1), before).written({})) == 2
    assert rows([24], known) == len(change_of(at(24), before).written({})) == 3
    assert rows([5, 5, 6], {}) == len(change_of(at(5, 5, 6)).written({})) == 2
    assert rows([0, 1, 2, -1], known) == len(change_of(at(0, 1, 2, -1), before).written({}))


def test_the_moment_of_these_tests_has_hours_on_both_sides() -> None:
    """Else a day would end between them."""
    assert datetime(2026, 11, 23, 7, 30, tzinfo=NOW.tzinfo) == NOW
