"""What a file changes of the stored entries, which only it decides: nothing is written here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meter.reports.subjects.entry import EDITABLE, OWN, Entry
from meter.reports.subjects.file import FileRow

_TIMES = ("first_seen", "last_seen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one subject's texts: by column, before and after. A new one has no entry yet."""

    subject: str
    texts: Mapping[str, tuple[str, str]]
    is_new: bool = False


@dataclass(slots=True, kw_only=True)
class Plan:
    """The changes that a file makes, and what it does not.

    `left` counts empty cells where something is stored, which stays. `not_taken` are the meter's own
    columns with the subjects for which the file says something else. `odd` are new subjects that begin
    or end with a blank, which is more likely a slip.
    """

    rows: int = 0
    changes: list[Change] = field(default_factory=list)
    left: int = 0
    not_taken: dict[str, list[str]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    @property
    def new(self) -> int:
        """How many subjects have no entry yet."""
        return sum(change.is_new for change in self.changes)


def plan_changes(rows: Sequence[FileRow], entries: Iterable[Entry], *, clears_empty: bool) -> Plan:
    """What the rows change of the entries. With `clears_empty`, empty cells clear what is stored."""
    wanted = {row.subject: row for row in rows}
    stored = {entry.subject: entry for entry in entries if entry.subject in wanted}
    plan = Plan(rows=len(rows))
    for row in rows:
        _add(plan, row, stored.get(row.subject), clears_empty=clears_empty)
    return plan


def _add(plan: Plan, row: FileRow, entry: Entry | None, *, clears_empty: bool) -> None:
    before = {} if entry is None else entry.texts
    texts: dict[str, tuple[str, str]] = {}
    for column in EDITABLE:
        old, new = before.get(column, ""), row.cells.get(column)
        if new is None or new == old:
            continue
        if not new and not clears_empty:
            plan.left += 1
        else:
            texts[column] = old, new
    if texts:
        plan.changes.append(Change(subject=row.subject, texts=texts, is_new=entry is None))
        if entry is None and row.subject.strip() != row.subject:
            plan.odd.append(row.subject)
    for column in _different(row, before):
        plan.not_taken.setdefault(column, []).append(row.subject)


def _different(row: FileRow, before: Mapping[str, str]) -> Iterator[str]:
    """The meter's own columns for which the row says something else than the entry."""
    for column in OWN:
        old, new = before.get(column, ""), row.cells.get(column, "")
        # Calls that were counted since the file was exported are no edit of it.
        if new and new != old and not (column in _TIMES and _is_earlier_export(column, new, old)):
            yield column


def _is_earlier_export(column: str, new: str, old: str) -> bool:
    """Whether the entry had that time before: the last call moves on, the first one back."""
    try:
        told, stored = datetime.fromisoformat(new), datetime.fromisoformat(old)
        return told < stored if column == "last_seen" else told > stored
    except (ValueError, TypeError):
        return False
