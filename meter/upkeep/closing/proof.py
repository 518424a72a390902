"""A proof that a call is in the closed total of its month once, and how it is checked without access.

The file is canonical in every byte: JSON with two spaces, members sorted by name, and a line feed.

| member   | is                                                                              |
|----------|---------------------------------------------------------------------------------|
| `format` | `FORMAT`                                                                        |
| `leaf`   | the call as it was counted (`leaf.py`)                                          |
| `path`   | the other sides of the nodes above the leaf, the lowest first: depth, hash, counts |
| `closed` | the header of the snapshot: month, totals, leaves, tree and all else (`header.py`) |
| `root`   | the header's hash, which is published                                           |

Checked is: the leaf and the path give the header's tree and totals; the leaves are as many as the
totals count; the call ended in the month; the header gives the root.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meter.errors import MeterError
from meter.upkeep.closing.header import Header, read_header
from meter.upkeep.closing.leaf import Leaf, node_of
from meter.upkeep.closing.tree import KEY_BITS, Counts, Node, Step, is_right, join
from meter.window import Period, window_of

FORMAT = "aoai-meter proof 1"
MAX_PROOF_BYTES = 2_000_000
_MEMBERS = {"format", "leaf", "path", "closed", "root"}
_SIGNED = "adjusted_"


class ProofInvalid(MeterError):
    """A file proves nothing: it was changed, or is no proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A call's leaf, its path to the tree of a closed month, and that month's header."""

    leaf: Leaf
    path: tuple[Step, ...]
    header: Header

    def encode(self) -> bytes:
        """The proof as a file."""
        document = {
            "format": FORMAT,
            "leaf": self.leaf,
            "path": [
                {"depth": step.depth, "hash": step.hash.hex(), "counts": step.counts}
                for step in self.path
            ],
            "closed": self.header.document,
            "root": self.header.root,
        }
        return f"{json.dumps(document, ensure_ascii=False, sort_keys=True, indent=2)}\n".encode()


def check_proof(file: bytes, *, root: str | None = None) -> Proof:
    """Read and check a proof, also against the root that was published. Raises ProofInvalid."""
    proof = _read(file)
    header = proof.header
    try:
        top = _climb(proof)
        time = datetime.fromisoformat(str(proof.leaf["time"]))
    except (ValueError, KeyError, TypeError, OverflowError) as exc:
        raise ProofInvalid(f"the call or its path cannot be read: {exc}") from exc
    if window_of(time, Period.MONTH) != header.month:
        raise ProofInvalid(f"the call ended {time.isoformat()}, not in {header.month.name}")
    if top.hash != header.tree:
        raise ProofInvalid("the call and its path do not lead to the month's tree")
    if top.counts != header.totals:
        raise ProofInvalid("the call and its path do not add up to the month's totals")
    if root is not None and root.lower() != header.root:
        raise ProofInvalid(f"it is of another root: {header.root}")
    return proof


def _climb(proof: Proof) -> Node:
    node = node_of(proof.leaf)
    key, below = node.key, KEY_BITS
    for step in proof.path:
        if not 0 <= step.depth < below:
            raise ValueError(f"depth {step.depth} is not above {below}")
        below = step.depth
        other = Node(step.hash, step.counts, key)
        left, right = (other, node) if is_right(key, step.depth) else (node, other)
        node = join(step.depth, left, right)
    return node


def _read(file: bytes) -> Proof:
    if len(file) > MAX_PROOF_BYTES:
        raise ProofInvalid(f"a proof has at most {MAX_PROOF_BYTES} bytes, got {len(file)}")
    try:
        document = json.loads(file.decode())
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT!r}")
        if document.keys() != _MEMBERS or not isinstance(document["leaf"], dict):
            raise ValueError(f"its members are {', '.join(sorted(_MEMBERS))}")
        proof = Proof(
            leaf=document["leaf"],
            path=tuple(map(_step, document["path"])),
            header=read_header(document["closed"]),
        )
        written = proof.encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ProofInvalid(f"it is no proof: {exc}") from exc
    if document["root"] != proof.header.root:
        raise ProofInvalid("the month's header does not give the root")
    if written != file:
        raise ProofInvalid("it is not written as `prove` writes it, byte for byte")
    return proof


def _step(step: Mapping[str, Any]) -> Step:
    if step.keys() != {"depth", "hash", "counts"} or type(step["depth"]) is not int:
        raise ValueError("a step of the path has depth, hash and counts")
    return Step(step["depth"], read_hash(step["hash"]), _counts(step["counts"]))


def read_hash(text: object) -> bytes:
    """A SHA-256 in hexadecimal. Raises ValueError."""
    if not isinstance(text, str) or len(text) != 64:
        raise ValueError("a hash is 64 hexadecimal digits")
    return bytes.fromhex(text)


def _counts(counts: Mapping[str, Any]) -> Counts:
    """Counts of another side. None but those of adjustments is below 0, so none hides the call."""
    for name, count in counts.items():
        if type(count) is not int or count == 0 or (count < 0 and not name.startswith(_SIGNED)):
            raise ValueError(f"{name} is {count!r:.60}")
    return dict(counts)
