"""`python -m meter unpublished`: publishes events that were written to the log of last resort."""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path

from meter.errors import PublishFailed
from meter.publishing.loglines import UnpublishedEvents, unpublished_events
from meter.terminal import printable, shown_document
from meter.wiring.commands import open_sender

MAX_SHOWN_CHARS = 200
_REFUSED = ("AuthenticationError", "unauthorized-access")
SENT_TOGETHER = 20  # of 32 KB at most each, below the hub's 1 MB


def run(options: argparse.Namespace) -> int:
    """Write or publish the events."""
    found = unpublished_events(_lines(options.files))
    for text in found.unreadable:
        print(f"unreadable: {printable(text, most=MAX_SHOWN_CHARS)}", file=sys.stderr)
    published = True
    if options.publish:
        published = asyncio.run(_publish(found))
    else:
        for event in found.by_id.values():
            print(shown_document(event.decode(), sys.stdout))
    print(
        f"{len(found.by_id)} events, {len(found.unreadable)} unreadable lines"
        f"{', published' if options.publish and published else ''}",
        file=sys.stderr,
    )
    return 0 if published and not found.unreadable else 1


async def _publish(found: UnpublishedEvents) -> bool:
    async with open_sender() as sender:
        for subject, events in found.by_subject():
            for some in batched(events, SENT_TOGETHER, strict=False):
                try:
                    await sender.send(subject, some)
                except PublishFailed as exc:
                    print(f"error: {printable(_reason(exc))}", file=sys.stderr)
                    return False
    return True


def _reason(failure: PublishFailed) -> str:
    text = str(failure)
    if not any(word in text for word in _REFUSED):
        return f"{text}; repeat the command"
    return (
        f"{text}; it refused the key, or the identity, whose role is Azure Event Hubs Data Sender"
    )


def _lines(files: Sequence[Path]) -> Iterator[str]:
    if not files:
        yield from sys.stdin
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from lines
