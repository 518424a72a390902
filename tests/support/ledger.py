"""Builders of the ledger's parts on a store, as the app wires them."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import count, islice

from meter.ledger.aggregator import Aggregator
from meter.ledger.keys import SUM_PREFIX, Dimensions, ledger_partition
from meter.ledger.packing.packed import OPEN_COLUMNS, OpenSum, unpacked
from meter.ledger.views.shards import Shards
from meter.ledger.views.view import ViewWriter
from meter.ports import Row, RowStore
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW, RETENTION


def aggregator_on(store: RowStore, now: datetime = NOW) -> Aggregator:
    """A newly started aggregator, whose clock shows this moment."""
    return Aggregator(
        store=store,
        clock=FakeClock(moment=now),
        retention=RETENTION,
        writer=new_writer(),
    )


_WRITERS = count(1)


def new_writer() -> str:
    """The id of a process, which no other has."""
    return f"writer-{next(_WRITERS)}"


def subjects_of_own_buckets(number: int) -> list[str]:
    """Subjects that share no ledger partition; there are 64."""
    by_bucket: dict[str, str] = {}
    for name in _names():
        by_bucket.setdefault(ledger_partition(name), name)
        if len(by_bucket) == number:
            return list(by_bucket.values())
    raise AssertionError("names do not end")


def subjects_of_one_bucket(number: int) -> list[str]:
    """Subjects whose ledger partition is alice's."""
    partition = ledger_partition("alice")
    return list(islice((name for name in _names() if ledger_partition(name) == partition), number))


def _names() -> Iterator[str]:
    return (f"s{number}" for number in count())


def dimensions(**names: str) -> Dimensions:
    """Dimensions of a call of alice's, but for those that are given."""
    usual = {
        "subject": "alice",
        "client_app": "app",
        "deployment": "gpt-4o",
        "model": "gpt-4o-2024-11-20",
        "backend": "east",
        "tier": "standard",
        "context": "short",
    }
    return Dimensions(**{**usual, **names})


def sums_in_ledger(store: MemoryRowStore, table: str) -> dict[tuple[str, str], Row]:
    """The sums of a ledger by partition and row key, as if each had a row of its own.

    None has two places, and what has a row of its own is earlier than what is open.
    """
    found: dict[tuple[str, str], Row] = {}
    latest: dict[tuple[str, str, int], str] = {}
    for (partition, key), row in store.tables.get(table, {}).items():
        if key.startswith(SUM_PREFIX):
            rows, damages, _ = unpacked(partition, row)
            assert not damages, damages
            for each in rows:
                assert (partition, each.key) not in found, f"{each.key} is in two places"
                found[partition, each.key] = each
            for column in OPEN_COLUMNS.values() if len(key.split("|")[1]) == 7 else ():
                window = json.loads(str(row.columns[column]))["window"]
                latest[partition, key.split("|", 2)[2], len(window)] = window
    for (partition, key), row in found.items():
        _, window, name = key.split("|", 2)
        if len(window) > 7:
            opened = latest[partition, name, len(window)]
            is_open = isinstance(row, OpenSum)
            assert window == opened if is_open else window <= opened, f"{key} is not yet closed"
    return found


def views_on(store: RowStore) -> ViewWriter:
    """A writer of views, newly started."""
    return ViewWriter(store, Shards(store, FakeClock(moment=NOW)))
