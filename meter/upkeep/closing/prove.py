"""Finds a call in the ledger of a closed month, and makes the proof that the closed total has it once.

One ledger partition is read, and the subtrees of the others are stored with the snapshot. What was
counted after the month was closed is left out by the time at which its marker was written.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from meter.errors import MeterError
from meter.ledger.keys import (
    CALL_PREFIX,
    LAST_KEY,
    LEDGER_PARTITIONS,
    call_row_key,
    ledger_partition,
    ledger_table,
)
from meter.ports import Row, RowStore
from meter.upkeep.closing.leaf import Leaves, leaf_of
from meter.upkeep.closing.proof import Proof, check_proof
from meter.upkeep.closing.snapshot import BUCKETS, ClosedMonth, read_closed
from meter.upkeep.closing.tree import Node, Step, Tree, key_in_bucket, key_of
from meter.upkeep.share import Share
from meter.window import Window

SHOW_EVERY = 1_000


class NotProvable(MeterError):
    """A call cannot be proven, for the reason that the message gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """Makes proofs; `show` gets, often, how many markers were read."""

    store: RowStore
    show: Callable[[int], None] = lambda _: None

    async def prove(self, event_id: UUID, subject: str, months: Sequence[Window]) -> Proof:
        """The proof of a subject's call in the first of the months that has it.

        Raises NotProvable, StorageUnavailable.
        """
        closed = await read_closed(self.store)
        key = call_row_key(event_id, subject)
        for month in months:
            table, partition = ledger_table(month), ledger_partition(subject)
            row = (await self.store.read(table, partition, [key])).get(key)
            if row is None:
                continue
            if month not in closed.by_month:
                raise NotProvable(f"the call is counted in {month.name}, which is not closed")
            return await self._prove(closed.by_month[month], row, event_id, subject)
        names = " or ".join(month.name for month in months)
        for month in filter(closed.by_month.__contains__, months):
            if not await self._has_ledger(month):
                raise NotProvable(
                    f"{ledger_table(month)} was dropped after its retention: no call of "
                    f"{month.name} can be proven any more; proofs made before stay valid"
                )
        raise NotProvable(f"no such call of this subject is counted in {names}")

    async def _prove(self, closed: ClosedMonth, row: Row, event_id: UUID, subject: str) -> Proof:
        buckets = await self.store.read(closed.table, BUCKETS, LEDGER_PARTITIONS)
        partition = ledger_partition(subject)
        written_at = _written_at(buckets.get(partition))
        if partition not in buckets or _is_later(row, written_at):
            raise NotProvable(
                f"the call arrived after {closed.month.name} was closed: it is a correction, and not "
                "in the closed total"
            )
        leaves = Leaves(watched=key_of(subject, event_id.int))
        share = Share(partition=partition, month=closed.month, each=leaves.take)
        scan = self.store.scan(
            ledger_table(closed.month),
            first_partition=partition,
            last_partition=partition,
            first_key=CALL_PREFIX,
            last_key=f"{CALL_PREFIX}{LAST_KEY}",
        )
        read = 0
        async for _, each in scan:
            read += 1
            if read % SHOW_EVERY == 0:
                self.show(read)
            if not _is_later(each, written_at):
                share.add(each)
        own, stored = leaves.root(), buckets[partition]
        if own is None or own.path is None or own.hash.hex() != stored.columns["Hash"]:
            raise NotProvable(
                f"ledger partition {partition} does not have the markers that it had when "
                f"{closed.month.name} was closed"
            )
        proof = Proof(
            leaf=leaf_of(row, subject), path=_path(buckets, partition, own), header=closed.header
        )
        check_proof(proof.encode())
        return proof

    async def _has_ledger(self, month: Window) -> bool:
        scan = self.store.scan(
            ledger_table(month), first_partition="00", last_partition="63", columns=()
        )
        async for _ in scan:
            return True
        return False


def _path(buckets: Mapping[str, Row], partition: str, own: Node) -> tuple[Step, ...]:
    """The path of the leaf through its bucket's subtree, and from there to the top."""
    tree = Tree()
    for name in sorted(buckets):
        key, columns = key_in_bucket(int(name)), buckets[name].columns
        if name == partition:
            tree.add(own._replace(key=key))
        else:
            hashed = bytes.fromhex(str(columns["Hash"]))
            tree.add(Node(hashed, json.loads(str(columns["Counts"])), key))
    top = tree.root()
    assert top is not None, "the bucket has the leaf"
    assert top.path is not None, "the bucket has the leaf"
    return top.path


def _written_at(row: Row | None) -> datetime | None:
    value = None if row is None else row.columns.get("WrittenAt")
    return value if isinstance(value, datetime) else None


def _is_later(row: Row, moment: datetime | None) -> bool:
    return moment is not None and row.written_at is not None and row.written_at > moment
