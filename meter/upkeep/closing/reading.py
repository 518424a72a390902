"""Reads a month for its snapshot: its sums, the tree of its calls, and what is wrong with its ledger.

The sums are added up from the markers, a few ledger partitions at a time, and must be those of the
ledger. A partition is read again while calls are counted in it, so sums and tree are of one moment.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched

from meter.ledger.fold import Sums, total_sums
from meter.ledger.keys import LEDGER_PARTITIONS, SumKey
from meter.ports import Row, RowStore
from meter.upkeep.audit import differences_of, wrong_sums
from meter.upkeep.closing.canonical import canonical
from meter.upkeep.closing.leaf import Leaves, counts_of_sums
from meter.upkeep.closing.snapshot import SnapshotWriter
from meter.upkeep.closing.tree import Node, Tree, key_in_bucket
from meter.upkeep.differences import Kind
from meter.upkeep.rebuild import PARTITIONS_AT_ONCE, Progress
from meter.upkeep.share import read_share
from meter.window import Window

MAX_LOOKS = 5


@dataclass(slots=True, kw_only=True)
class ReadMonth:
    """The tree of a month's buckets and how many leaves it has, and what speaks against closing it.

    `final` reasons hold even if it is forced.
    """

    tree: Tree = field(default_factory=Tree)
    rows: list[Row] = field(default_factory=list)
    leaves: int = 0
    reasons: list[str] = field(default_factory=list)
    final: list[str] = field(default_factory=list)

    def add(self, month: Window, bucket: "_Bucket") -> None:
        """Add the next bucket."""
        name = f"bucket {bucket.partition}"
        if not bucket.is_quiet:
            self.final.append(f"{name}: calls of {month.name} are being counted: run it again")
        if bucket.wrong:
            # No subjects: reasons are in the header, which every proof shows.
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(bucket.wrong.items()))
            command = f"`rebuild --month {month.name} --dry-run` names them"
            self.reasons.append(f"the ledger, {name}: {kinds}: {command}")
        if bucket.root is None:
            return
        of_month = [sums for key, sums in bucket.sums.items() if key.window == month]
        if counts_of_sums(total_sums(of_month)) != bucket.root.counts:
            self.final.append(f"{name}: its sums do not add up to its calls, a defect: report it")
        columns: dict[str, object] = {
            "Hash": bucket.root.hash.hex(),
            "Counts": canonical(bucket.root.counts).decode(),
        }
        if bucket.written_at is not None:
            columns["WrittenAt"] = bucket.written_at
        self.rows.append(Row(key=bucket.partition, columns=columns))
        self.tree.add(bucket.root._replace(key=key_in_bucket(int(bucket.partition))))
        self.leaves += bucket.leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bucket:
    """What was read of a ledger partition."""

    partition: str
    root: Node | None
    written_at: datetime | None
    leaves: int
    sums: Mapping[SumKey, Sums]
    wrong: Counter[Kind]
    is_quiet: bool


async def read_month(
    store: RowStore,
    month: Window,
    snapshot: SnapshotWriter | None,
    show: Callable[[Progress], None],
) -> ReadMonth:
    """Read all ledger partitions, and write their sums to the snapshot, if there is one.

    Raises StorageUnavailable.
    """
    found, progress = ReadMonth(), Progress(partitions=LEDGER_PARTITIONS)

    def count(calls: int) -> None:
        progress.calls += calls
        show(progress)

    for some in batched(LEDGER_PARTITIONS, PARTITIONS_AT_ONCE, strict=False):
        reads = (_read(store, month, each, count) for each in some)
        buckets = []
        for bucket in await asyncio.gather(*reads, return_exceptions=True):
            if isinstance(bucket, BaseException):
                raise bucket
            found.add(month, bucket)
            buckets.append(bucket)
        if snapshot is not None:
            sums = [each for bucket in buckets for each in bucket.sums.items()]
            await snapshot.write_sums(sums)
        progress.checked += len(some)
        show(progress)
    if snapshot is not None:
        await snapshot.write_buckets(found.rows)
    return found


async def _read(
    store: RowStore, month: Window, partition: str, progress: Callable[[int], None]
) -> _Bucket:
    for _ in range(MAX_LOOKS):
        leaves = Leaves()
        share = await read_share(store, month, partition, each=leaves.take, progress=progress)
        if share.is_quiet():
            break
    return _Bucket(
        partition=partition,
        root=leaves.root(),
        written_at=leaves.last_written_at,
        leaves=leaves.count,
        sums=share.counted(),
        wrong=Counter(each.kind for each in differences_of(share, {}, wrong_sums(share))),
        is_quiet=share.is_quiet(),
    )
