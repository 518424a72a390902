"""A Merkle tree that adds up its calls, and in which a call has one place only.

It is a binary trie: a leaf's key says at each node whether it lies to the left (0) or the right (1).
So under one root there is one leaf for a key at most, whoever made the tree: a second one would lie
where its own key does not lead. A node's hash binds the counts of both its sides, so the counts of the
root are those of the leaves.

| what | is                                                                                     |
|------|----------------------------------------------------------------------------------------|
| key  | 390 bits: the first 6 of SHA-256(subject), the 128 of the event id, SHA-256(subject)   |
| leaf | SHA-256(0x00, leaf as JSON)                                                            |
| node | SHA-256(0x01, depth, left hash, left counts as JSON, right hash, right counts as JSON) |

`depth` is the place of the first bit in which the keys of both sides differ, counted from 0, in two
bytes, the higher first. Subjects are UTF-8, JSON is canonical (`canonical.py`), counts of 0 are left
out. The first bits are the subject's bucket, so each ledger partition is a subtree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from meter.bucket import BUCKETS
from meter.upkeep.closing.canonical import canonical_counts, digest

type Counts = Mapping[str, int]
"""Counts by name, none of them 0."""

KEY_BITS = 6 + 128 + 256
NO_LEAVES = sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"
_BELOW_BUCKET = KEY_BITS - 6
assert BUCKETS == 1 << 6, "a bucket is the first bits of a key"


class Step(NamedTuple):
    """One step of a path, from a leaf up: the other side of a node at that depth."""

    depth: int
    hash: bytes
    counts: Counts


class Node(NamedTuple):
    """A leaf or a subtree: its hash, its counts, and the key of any leaf in it.

    `path` leads from the leaf that a proof is about to this node; None if that is not in it.
    """

    hash: bytes
    counts: Counts
    key: int
    path: tuple[Step, ...] | None = None


def key_of(subject: str, event_id: int) -> int:
    """The place of a subject's call in any tree; `event_id` is the UUID's number."""
    hashed = _hash_of(subject)
    return (hashed >> 250 << _BELOW_BUCKET) | (event_id << 256) | hashed


@lru_cache(maxsize=4_096)  # a ledger partition's markers are of few subjects
def _hash_of(subject: str) -> int:
    return int.from_bytes(sha256(subject.encode()).digest())


def key_in_bucket(bucket: int) -> int:
    """A key that stands for all keys of a bucket, beside those of others."""
    return bucket << _BELOW_BUCKET


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf."""
    return digest(_LEAF, leaf)


def is_right(key: int, depth: int) -> bool:
    """Whether a leaf lies to the right at that depth."""
    return bool(key >> (KEY_BITS - 1 - depth) & 1)


def join(depth: int, left: Node, right: Node) -> Node:
    """The node above two others."""
    hashed = digest(
        _NODE,
        depth.to_bytes(2),
        left.hash,
        canonical_counts(left.counts),
        right.hash,
        canonical_counts(right.counts),
    )
    path = None
    if left.path is not None:
        path = (*left.path, Step(depth, right.hash, right.counts))
    elif right.path is not None:
        path = (*right.path, Step(depth, left.hash, left.counts))
    return Node(hashed, added(left.counts, right.counts), left.key, path)


def added(one: Counts, other: Counts) -> dict[str, int]:
    """Both added up, count by count."""
    total = dict(one)
    for name, count in other.items():
        total[name] = total.get(name, 0) + count
    return total if all(total.values()) else {name: n for name, n in total.items() if n}


@dataclass(slots=True)
class Tree:
    """Builds a tree from its leaves, or from subtrees, in the order of their keys.

    It holds one node per level, however many leaves there are.
    """

    _nodes: list[Node] = field(default_factory=list)
    _depths: list[int] = field(default_factory=list)
    """Where each node but the first differs from the one before it."""

    def add(self, node: Node) -> None:
        """Add the next one. Raises ValueError if it is not after those before it."""
        if self._nodes:
            before = self._nodes[-1].key
            if node.key <= before:
                raise ValueError("a leaf is in the tree already, or comes out of order")
            depth = KEY_BITS - (before ^ node.key).bit_length()
            while self._depths and self._depths[-1] > depth:
                self._join()
            self._depths.append(depth)
        self._nodes.append(node)

    def root(self) -> Node | None:
        """The whole tree; None without leaves. Nothing can be added afterwards."""
        while self._depths:
            self._join()
        return self._nodes[0] if self._nodes else None

    def _join(self) -> None:
        right, left = self._nodes.pop(), self._nodes.pop()
        # The key of the later side: the next leaf is compared with its neighbour.
        joined = join(self._depths.pop(), left, right)
        self._nodes.append(joined._replace(key=right.key))
