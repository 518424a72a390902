"""The leaf of a marker: everything that the ledger knows of a counted call, and its counts.

A leaf's JSON has `id`, `subject`, `time` (the call's end, as in events) and `call` (the marker's own
JSON). Its counts are those of the call, and of other models that served it as tools.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from meter.adjustment import CountedAdjustment
from meter.ledger.fold import Sums, parts_of, total_sums
from meter.ledger.keys import CALL_PREFIX, call_row_key, escape
from meter.ledger.markers import read_marker
from meter.ports import Row
from meter.upkeep.closing.canonical import canonical
from meter.upkeep.closing.tree import Counts, Node, Tree, key_of, leaf_hash
from meter.usage import NO_USAGE, CountedCall, format_time

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
CALL_COUNTS = ("calls", "failed_calls", "estimated_calls", "missing_calls")

type Leaf = Mapping[str, object]


def leaf_of(row: Row, subject: str) -> Leaf:
    """A marker's leaf. Raises ValueError for a row that is not as the app writes it."""
    text = row.key.split("|", 2)[1]
    if not _ID.fullmatch(text) or row.key != f"{CALL_PREFIX}{text}|{escape(subject)}":
        raise ValueError(f"{row.key} is not the key of a marker")
    time, call = row.columns.get("At"), json.loads(str(row.columns.get("Call")))
    if not isinstance(time, datetime):
        raise ValueError(f"{row.key}: At is {time!r}")
    return {"call": call, "id": text, "subject": subject, "time": format_time(time)}


def node_of(leaf: Leaf) -> Node:
    """The leaf as a node of a tree. Raises ValueError for what is no leaf."""
    subject, text, time = (_text(leaf, name) for name in ("subject", "id", "time"))
    moment = datetime.fromisoformat(time)
    if leaf.keys() != {"call", "id", "subject", "time"} or not _ID.fullmatch(text):
        raise ValueError("a leaf has call, id, subject and time")
    if moment.tzinfo is None or format_time(moment) != time:
        raise ValueError(f"time {time!r} is not written as in events")
    written = json.dumps(leaf["call"])
    call = read_marker(
        Row(key=call_row_key(UUID(text), subject), columns={"At": moment, "Call": written})
    )
    return _node(leaf, subject, text, call)


def counts_of_sums(sums: Sums) -> Counts:
    """The counts of a sum by name, none of them 0."""
    counts = {name: n for name in (*CALL_COUNTS, "adjustments") if (n := getattr(sums, name))}
    counts |= sums.tokens.nonzero()
    if sums.adjustments or sums.adjusted is not NO_USAGE:
        counts |= {f"adjusted_{name}": n for name, n in sums.adjusted.nonzero().items()}
    return counts


@dataclass(slots=True)
class Leaves:
    """Builds the tree of one ledger partition from its markers, in the order of their row keys.

    `watched` is the key of the leaf that a proof is about. Ids that several subjects share are put in
    the order of the tree's keys, which hold hashes of subjects.
    """

    watched: int | None = None
    tree: Tree = field(default_factory=Tree)
    count: int = 0
    last_written_at: datetime | None = None
    _same_id: list[Node] = field(default_factory=list)
    _id: str | None = None

    def take(self, row: Row, subject: str, call: CountedCall | CountedAdjustment) -> None:
        """Add a marker. Raises ValueError for a row that is not as the app writes it."""
        leaf = leaf_of(row, subject)
        event_id = str(leaf["id"])
        node = _node(leaf, subject, event_id, call)
        if node.key == self.watched:
            node = node._replace(path=())
        if event_id != self._id:
            self._flush()
            self._id = event_id
        self._same_id.append(node)
        self.count += 1
        if row.written_at is not None:
            self.last_written_at = max(self.last_written_at or row.written_at, row.written_at)

    def root(self) -> Node | None:
        """The partition's subtree; None without markers."""
        self._flush()
        return self.tree.root()

    def _flush(self) -> None:
        for node in sorted(self._same_id, key=lambda node: node.key):
            self.tree.add(node)
        self._same_id.clear()


def _node(leaf: Leaf, subject: str, event_id: str, call: CountedCall | CountedAdjustment) -> Node:
    parts = [sums for _, sums in parts_of(subject, call)]
    counts = counts_of_sums(parts[0] if len(parts) == 1 else total_sums(parts))
    return Node(
        leaf_hash(canonical(leaf)), counts, key_of(subject, int(event_id.replace("-", ""), 16))
    )


def _text(leaf: Leaf, name: str) -> str:
    value = leaf.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {value!r:.60}")
    return value
