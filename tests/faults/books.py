"""Reads the tables directly and checks that they agree: every call once, in every sum and view."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from azure.data.tables import TableServiceClient

from meter.ledger.keys import CALL_PREFIX, SUM_PREFIX, unescape, view_window
from meter.ledger.packing.packed import unpacked
from meter.ports import Row
from meter.usage import UsageEvent

VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")

type Totals = tuple[int, int]  # calls and tokens


@dataclass(frozen=True, slots=True)
class Books:
    """The stored data. Sums are by subject and window, over all deployments and models."""

    calls: Mapping[str, Mapping[str, int]]  # by subject, then event id: the call's tokens
    sums: Mapping[str, Mapping[str, Totals]]
    views: Mapping[str, Mapping[str, Totals]]
    subjects: Mapping[str, Any]
    dead_letters: tuple[Any, ...]

    def of(self, subject: str) -> "Account":
        """One subject's part."""
        return Account(
            calls=dict(self.calls.get(subject, {})),
            sums=dict(self.sums.get(subject, {})),
            views=dict(self.views.get(subject, {})),
        )


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A stored sum that differs from the sum of the markers."""

    where: str
    stored: Totals
    markers: Totals

    @property
    def is_too_much(self) -> bool:
        """Whether something is counted more than once; otherwise something is missing."""
        return self.stored > self.markers


@dataclass(frozen=True, slots=True)
class Account:
    """The stored data of one subject."""

    calls: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, Totals] = field(default_factory=dict)
    views: Mapping[str, Totals] = field(default_factory=dict)

    def disagreements(self) -> list[Disagreement]:
        """The differences of the ledger's sums and the views, by hour, day and month, from the markers."""
        markers = len(self.calls), sum(self.calls.values())
        found = []
        for period, length in (("month", 7), ("day", 10), ("hour", 13)):
            for name, totals in (("ledger", self.sums), ("view", self.views)):
                windows = [total for window, total in totals.items() if len(window) == length]
                stored = sum(calls for calls, _ in windows), sum(tokens for _, tokens in windows)
                if stored != markers:
                    found.append(Disagreement(f"{name} by {period}", stored, markers))
        return found


def read_books(connection_string: str) -> Books:
    """Read everything that is stored now."""
    with TableServiceClient.from_connection_string(connection_string) as service:
        names = [table.name for table in service.list_tables()]
        rows = {name: list(service.get_table_client(name).list_entities()) for name in names}
    ledger = [row for name in names if name.startswith("Ledger") for row in rows[name]]
    calls: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in ledger:
        if row["RowKey"].startswith(CALL_PREFIX):
            usage = json.loads(row["Call"])["usage"]
            _, event_id, subject = row["RowKey"].split("|")
            calls[unescape(subject) or row["Subject"]][event_id] = usage.get("total_tokens", 0)
    return Books(
        calls=calls,
        sums=_added(
            (each.key.split("|")[1], each.columns)
            for row in ledger
            if row["RowKey"].startswith(SUM_PREFIX)
            for each in unpacked(row["PartitionKey"], Row(key=row["RowKey"], columns=row)).rows
        ),
        views=_added(
            (view_window(row["PartitionKey"]), row) for name in VIEWS for row in rows.get(name, [])
        ),
        subjects={row["Subject"]: row for row in rows.get("Subjects", [])},
        dead_letters=tuple(rows.get("DeadLetters", [])),
    )


def _added(rows: Iterable[tuple[str, Any]]) -> Mapping[str, Mapping[str, Totals]]:
    calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
    tokens: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for window, row in rows:
        calls[row["Subject"]][window] += _count(row, "Calls")
        tokens[row["Subject"]][window] += _count(row, "TotalTokens")
    return {
        subject: {window: (count, tokens[subject][window]) for window, count in windows.items()}
        for subject, windows in calls.items()
    }


def _count(row: Any, column: str) -> int:
    count = row.get(column, 0)  # the ledger leaves out counts of 0
    return int(getattr(count, "value", count))  # the SDK's, or that of an open sum


def assert_counted_once(books: Books, events: Sequence[UsageEvent]) -> None:
    """Assert that each event has a marker with its tokens, with which all sums and views agree."""
    for subject in {event.subject for event in events}:
        account = books.of(subject)
        own = [event for event in events if event.subject == subject]
        assert account.calls == {str(event.id): event.usage.total_tokens for event in own}
        assert account.disagreements() == []
