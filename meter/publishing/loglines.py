"""Log lines that arrive whole: written in numbered parts, joined again when they are read.

A line is `WORD at=TIME level=LEVEL REST`; WORD says what happened. A longer one becomes lines
`WORD at=TIME level=LEVEL line=ID part=N/OF PIECE`, whose pieces are REST; ID is made of REST.

The Functions host guesses a console line's level from its words: "warn" anywhere is a warning, else
"error", "fail" or "severe" an error, else information (`WorkerProcess.ParseErrorMessageAndLog` in
github.com/Azure/azure-functions-host). So the levels here are such words, and only they are true.
"""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b

from msgspec import Struct, field

from meter.patterns import lazy_pattern

# A pipe takes a write of up to 4,096 bytes whole, unmixed with others' (pipe(7), PIPE_BUF); container
# runtimes cut lines at 16 KiB, and Azure Monitor's columns end at 32 KiB.
MAX_LINE_BYTES = 4_000
UNPUBLISHED = "usage_event_unpublished"
LEVELS = {
    logging.CRITICAL: "critical-error",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
    logging.DEBUG: "debug",
}
_LINE = lazy_pattern(
    rf"{UNPUBLISHED} at=\S+ level=\S+ (?:line=(\w+) part=(\d+)/(\d+) )?(.*\S)", re.DOTALL
)
_EVENT = "event="


def log_lines(text: str, level: int, at: datetime) -> list[bytes]:
    """The lines for a message, each without its line feed."""
    # One message is one line: the host would take each line of a traceback for a message.
    word, _, rest = text.replace("\r", "\\r").replace("\n", " \\n ").partition(" ")
    name = LEVELS.get(level, str(level))
    head = f"{word} at={at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z level={name} "
    whole = (head + rest).encode("utf-8", "backslashreplace")
    if len(whole) <= MAX_LINE_BYTES:
        return [whole.rstrip()]
    body = rest.encode("utf-8", "backslashreplace")
    head += f"line={blake2b(body, digest_size=8).hexdigest()} part="
    pieces = list(_pieces(body, MAX_LINE_BYTES - len(head.encode("utf-8", "replace")) - 16))
    return [
        f"{head}{number}/{len(pieces)} ".encode("utf-8", "backslashreplace") + piece
        for number, piece in enumerate(pieces, 1)
    ]


def without_apostrophes(text: str) -> str:
    """JSON of the same meaning without apostrophes.

    On Linux the host drops them from `FunctionAppLogs`, and writes quotation marks as apostrophes
    (`LinuxEventGenerator.NormalizeString` and its callers, in the same repository).
    """
    return text.replace("'", "\\u0027")


class UnpublishedEvents(Struct):
    """Events found in a log, once each, and the lines that tell of others."""

    by_id: dict[str, bytes] = field(default_factory=dict)
    ids_of: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def by_subject(self) -> Iterator[tuple[str, list[bytes]]]:
        """The events of each subject, in the order of the log."""
        for subject, ids in self.ids_of.items():
            yield subject, [self.by_id[identity] for identity in ids]


def unpublished_events(lines: Iterable[str]) -> UnpublishedEvents:
    """The events that a log has in full; parts may come in any order and more than once."""
    found = UnpublishedEvents()
    parts: defaultdict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for line in lines:
        if (match := _LINE.search(line)) is None:
            if UNPUBLISHED in line:
                found.unreadable.append(line.strip())
            continue
        identity, number, of, text = match.groups()
        if identity is None:
            _add(found, text)
            continue
        whole = parts[identity, int(of)]
        whole[int(number)] = text
    for (identity, of), whole in parts.items():
        if whole.keys() == set(range(1, of + 1)):
            _add(found, "".join(whole[number] for number in range(1, of + 1)))
        else:
            found.unreadable.append(f"line={identity}: {len(whole)} of {of} parts")
    return found


def _add(found: UnpublishedEvents, text: str) -> None:
    event = text.removeprefix(_EVENT)
    # As it was written; as a CSV file quotes it; as the host leaves it on its way to a table.
    for each in (event, event.replace('""', '"'), event.replace("'", '"')):
        try:
            # Text behind it was added when the line was copied.
            document, end = json.JSONDecoder().raw_decode(each)
            identity, subject = str(document["id"]), str(document["subject"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if identity not in found.by_id:
            found.by_id[identity] = each[:end].encode()
            found.ids_of.setdefault(subject, []).append(identity)
        return
    found.unreadable.append(text)


def _pieces(body: bytes, size: int) -> Iterator[bytes]:
    """Cut between characters, and not at a space, which readers of logs trim."""
    while len(body) > size:
        end = size
        while end > 1 and (body[end] & 0xC0 == 0x80 or b" " in body[end - 1 : end + 1]):
            end -= 1
        yield body[:end]
        body = body[end:]
    yield body
