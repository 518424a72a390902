"""The header of a closed month: what its root binds.

| member        | is                                                                           |
|---------------|------------------------------------------------------------------------------|
| `format`      | `FORMAT`                                                                   |
| `month`       | the month                                                                  |
| `closed_at`, `closed_by` | when, and who                                                   |
| `forced`      | the reasons against closing it then, with `--force`                        |
| `prices`      | of each file of the price book, in order: `file`, `sha256`                  |
| `watermark`   | what was read: `time`, `hub`, `partitions`: the last `number`, `enqueued_at` |
| `leaves`      | how many calls and adjustments                                             |
| `totals`      | their counts                                                               |
| `tree`        | the hash of the tree of them (`tree.py`)                                   |
| `rows`        | of the snapshot's rows: `count`, `sha256` (`snapshot.py`)                  |
| `corrected`   | the months whose corrections it holds                                      |
| `settled`     | of them, those whose ledger was dropped: nothing can arrive any more       |
| `previous`    | the root of the month that was closed before; empty for the first          |

The root is SHA-256(0x02, header as canonical JSON).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meter.upkeep.closing.canonical import canonical, digest
from meter.upkeep.closing.tree import Counts
from meter.usage import format_time
from meter.window import Period, Window, parse_window

FORMAT = "aoai-meter closed month 1"
_ROOT = b"\x02"
_TEXTS = ("format", "month", "closed_at", "closed_by", "tree", "previous")
_LISTS = ("forced", "prices", "corrected", "settled")
_OBJECTS = ("watermark", "totals", "rows")
_MEMBERS = {*_TEXTS, *_LISTS, *_OBJECTS, "leaves"}


@dataclass(frozen=True, slots=True)
class Header:
    """The header as a document, and what is read from it. `read_header` makes sure that it is one."""

    document: Mapping[str, Any]

    @property
    def root(self) -> str:
        """What the month is known by: the hash of all of this."""
        return digest(_ROOT, canonical(self.document)).hex()

    @property
    def month(self) -> Window:
        """The month that was closed."""
        return Window(self.document["month"])

    @property
    def closed_at(self) -> datetime:
        """When it was closed."""
        return datetime.fromisoformat(self.document["closed_at"])

    @property
    def tree(self) -> bytes:
        """The hash of the tree."""
        return bytes.fromhex(self.document["tree"])

    @property
    def totals(self) -> Counts:
        """The counts of all of the month, none of them 0."""
        counts: Counts = self.document["totals"]
        return counts

    @property
    def corrected(self) -> tuple[Window, ...]:
        """The months whose corrections it holds."""
        return tuple(map(Window, self.document["corrected"]))

    @property
    def settled(self) -> tuple[Window, ...]:
        """Those of them to which nothing can be added any more."""
        return tuple(map(Window, self.document["settled"]))


def read_header(document: object) -> Header:
    """Take a document as a header. Raises ValueError if it is none."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"a closed month has the format {FORMAT!r}")
    if document.keys() != _MEMBERS:
        raise ValueError(f"a closed month has the members {', '.join(sorted(_MEMBERS))}")
    for names, kind in ((_TEXTS, str), (_LISTS, list), (_OBJECTS, dict)):
        if not all(isinstance(document[name], kind) for name in names):
            raise ValueError(f"{', '.join(names)} must each be a {kind.__name__}")
    if parse_window(document["month"]).period is not Period.MONTH:
        raise ValueError(f"month is {document['month']!r:.60}")
    if format_time(datetime.fromisoformat(document["closed_at"])) != document["closed_at"]:
        raise ValueError(f"closed_at is {document['closed_at']!r:.60}")
    totals, leaves = document["totals"], document["leaves"]
    if not all(type(count) is int and count for count in totals.values()):
        raise ValueError("totals are whole numbers other than 0")
    if type(leaves) is not int or leaves != totals.get("calls", 0) + totals.get("adjustments", 0):
        raise ValueError("the leaves are not as many as the totals count")
    header = Header(document)
    canonical(document)
    _ = header.tree, header.corrected, header.settled
    return header
