"""What a file changes, and what it leaves."""

from collections.abc import Mapping

from meter.reports.subjects.changes import Change, Plan, plan_changes
from meter.reports.subjects.entry import Entry, texts_in
from meter.reports.subjects.file import FileRow


def entry(subject: str = "alice", **columns: object) -> Entry:
    return Entry(subject=subject, texts=texts_in(columns))


def plan(
    cells: Mapping[str, str], *entries: Entry, subject: str = "alice", clears: bool = False
) -> Plan:
    row = FileRow(line=2, subject=subject, cells=cells)
    return plan_changes([row], entries, clears_empty=clears)


def test_only_what_differs_changes() -> None:
    """With its text before and after."""
    stored = entry(Team="Research", CostCentre=4711, DisplayName=" Alice ")
    found = plan({"team": "Sales", "cost_centre": "4711", "display_name": "Alice"}, stored)

    assert found.changes == [Change(subject="alice", texts={"team": ("Research", "Sales")})]


def test_an_empty_cell_leaves_what_is_stored() -> None:
    """It is counted where something is; columns that the file does not have are not."""
    stored = entry(Team="Research", DisplayName="Alice")
    found = plan({"team": "", "cost_centre": ""}, stored)

    assert found.changes == []
    assert found.left == 1


def test_an_empty_cell_clears_if_asked() -> None:
    """Nothing is left then."""
    found = plan({"team": "", "cost_centre": ""}, entry(Team="Research"), clears=True)

    assert found.changes == [Change(subject="alice", texts={"team": ("Research", "")})]
    assert found.left == 0


def test_unknown_subjects_are_new() -> None:
    """People prepare them; without a text there is nothing to prepare."""
    assert plan({"team": "Sales"}, subject="bob").changes == [
        Change(subject="bob", texts={"team": ("", "Sales")}, is_new=True)
    ]
    assert plan({"team": ""}, subject="bob", clears=True).changes == []


def test_a_new_subject_with_blanks_around_it_is_told() -> None:
    """More likely a slip of a hand; one that is known is what it is."""
    assert plan({"team": "Sales"}, subject="bob ").odd == ["bob "]
    assert plan({"team": "Sales"}, entry("bob "), subject="bob ").odd == []


def test_the_meters_own_columns_are_not_taken() -> None:
    """Told where the file has something else in them; an empty cell says nothing."""
    stored = entry(Name="Alice", Tenant="t")
    found = plan({"name": "Bob", "tenant": "t", "object_id": "", "client_app": "app"}, stored)

    assert found.changes == []
    assert found.not_taken == {"name": ["alice"], "client_app": ["alice"]}


def test_calls_since_the_export_are_no_edit() -> None:
    """The last call moves on meanwhile, and a late event moves the first one back."""
    stored = entry(FirstSeen="2026-11-02T00:00:00Z", LastSeen="2026-11-20T00:00:00Z")
    earlier = {"first_seen": "2026-11-03T00:00:00Z", "last_seen": "2026-11-19T00:00:00Z"}
    edited = {"first_seen": "2026-11-01T00:00:00Z", "last_seen": "20.11.2026"}

    assert plan(earlier, stored).not_taken == {}
    assert list(plan(edited, stored).not_taken) == ["first_seen", "last_seen"]
