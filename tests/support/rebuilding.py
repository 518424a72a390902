"""Shared by tests of rebuilding: a ledger with its views, ways to damage them, a rebuild's findings."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from meter.adjustment import Countable
from meter.ledger.keys import SUM_PREFIX, ledger_partition
from meter.ledger.packing.packed import OPEN_COLUMNS, unpacked
from meter.ports import Row
from meter.upkeep.differences import Difference, Kind
from meter.upkeep.rebuild import Rebuild, Summary
from meter.usage import COUNT_NAMES
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW, usage_event
from tests.support.ledger import aggregator_on

MONTH = Window("2026-11")
LEDGER = "Ledger202611"
NAMES = "app|gpt-4o|gpt-4o-2024-11-20|east|standard|short"
VIEW_ROW = f"alice|{NAMES}"
ALICE, BOB = ledger_partition("alice"), ledger_partition("b|ö")
BOBS_ROW = f"b=7C=C3=B6|{NAMES}"
HOUR_SUM, DAY_SUM, MONTH_SUM = (
    f"s|{window}|{VIEW_ROW}" for window in ("2026-11-23T07", "2026-11-23", "2026-11")
)

type State = dict[str, dict[tuple[str, str], Row]]


@dataclass(slots=True)
class Store(MemoryRowStore):
    """A store whose rows can be changed by hand."""

    def tamper(self, table: str, partition: str, key: str, **columns: Any) -> None:
        """Change some columns of a row, or of a sum that is open in its month's row."""
        if (partition, key) in self.tables[table]:
            before = self.tables[table][partition, key]
            self.put(table, partition, key, **{**before.columns, **columns})
            return
        month_key, column = home_of(key)
        text = self.tables[table][partition, month_key].columns[column]
        changed = with_columns(str(text), columns)
        self.tamper(table, partition, month_key, **{column: changed})

    def put(self, table: str, partition: str, key: str, **columns: Any) -> None:
        """Set a row, whether or not it exists."""
        self._last_etag += 1
        row = Row(key=key, columns=columns, etag=f'W/"{self._last_etag}"')
        self.tables.setdefault(table, {})[partition, key] = row

    def remove(self, table: str, partition: str, key: str) -> None:
        """Delete a row, or the text of a sum that is open in its month's row."""
        if (partition, key) in self.tables[table]:
            del self.tables[table][partition, key]
            return
        month_key, column = home_of(key)
        self.tamper(table, partition, month_key, **{column: ""})

    def rows(self, table: str, partition: str | None = None) -> dict[str, Mapping[str, object]]:
        """The columns of a table's rows by row key; each sum of a ledger is as a row of its own."""
        found = MemoryRowStore.rows(self, table, partition)
        if not table.startswith("Ledger"):
            return found
        for (place, key), row in self.tables.get(table, {}).items():
            if partition in {None, place} and key.startswith(SUM_PREFIX):
                found |= {each.key: each.columns for each in unpacked(place, row).rows}
        return found

    def view(self, table: str = "UsageByDay", partition: str = "2026-11-23") -> Any:
        """The columns of the view row of alice's calls."""
        return self.rows(table, partition).get(VIEW_ROW)


@dataclass(slots=True)
class Found:
    """A rebuild's summary and all the differences it reported."""

    summary: Summary
    differences: list[Difference] = field(default_factory=list)

    @property
    def kinds(self) -> list[Kind]:
        """What was wrong, in the order in which it was reported."""
        return [difference.kind for difference in self.differences]


async def store_with_three_calls() -> Store:
    """Three calls of two subjects, counted and in the views."""
    store = Store()
    await count(store, usage_event(1), usage_event(2), usage_event(3, subject="b|ö"))
    return store


async def count(store: Store, *events: Countable) -> None:
    """Deliver events to a newly started aggregator."""
    await aggregator_on(store, NOW + timedelta(hours=1)).count(events)


def neighbour_of(subject: str) -> str:
    """Another subject in the same ledger partition."""
    names = (f"{subject}{number}" for number in range(10_000))
    return next(name for name in names if ledger_partition(name) == ledger_partition(subject))


async def rebuild(store: Store, month: Window = MONTH, **options: Any) -> Found:
    """Rebuild a month, and prune it unless told otherwise."""
    found = Found(Summary())
    options.setdefault("prunes", True)
    rebuilding = Rebuild(
        store=store, tables=store, clock=FakeClock(moment=NOW), month=month, **options
    )
    found.summary = await rebuilding.run(found.differences.append)
    return found


def state(store: Store) -> State:
    """All rows as they are."""
    return {name: dict(rows) for name, rows in store.tables.items()}


def without_revisions(tables: State) -> dict[str, dict[tuple[str, str], dict[str, object]]]:
    """All columns except the revision; each sum of a ledger is as a row of its own."""
    found: dict[str, dict[tuple[str, str], dict[str, object]]] = {}
    for name, rows in tables.items():
        found[name] = {}
        for (partition, key), row in rows.items():
            is_sum = name.startswith("Ledger") and key.startswith(SUM_PREFIX)
            for each in unpacked(partition, row).rows if is_sum else [row]:
                columns = {n: value for n, value in each.columns.items() if n != "Revision"}
                found[name][partition, each.key] = columns
    return found


def home_of(key: str) -> tuple[str, str]:
    """The row key and the column of a sum that is open in its month's row."""
    prefix, window, name = key.split("|", 2)
    return f"{prefix}|{window[:7]}|{name}", OPEN_COLUMNS[Window(window).period]


def with_columns(text: str, columns: Mapping[str, Any]) -> str:
    """The text of an open sum, changed as these columns of its row would be."""
    found = json.loads(text)
    for column, value in columns.items():
        name = re.sub("(?<=.)(?=[A-Z])", "_", column).lower()
        if name in COUNT_NAMES:
            found.setdefault("tokens", {})[name] = value
        elif name in {"region", "deployment_type"}:
            place = found.get("place", ["", ""])
            found["place"] = [value, place[1]] if name == "region" else [place[0], value]
        else:
            found[name] = value.isoformat() if isinstance(value, datetime) else value
    return json.dumps(found)
