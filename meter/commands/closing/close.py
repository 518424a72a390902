"""`python -m meter close`: closes a month, so that its numbers never change."""

import argparse
import asyncio
import getpass
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

from meter.adapters.clock import system_dice
from meter.commands.progress import ProgressLine
from meter.errors import HubUnavailable, InvalidInput, InvalidSettings, PublishFailed
from meter.ports import HubReader
from meter.terminal import printable
from meter.upkeep.closing.close import Closing, Refused
from meter.upkeep.closing.header import Header
from meter.upkeep.rebuild import Progress
from meter.usage import is_writable
from meter.wiring.commands import open_hub_reader, open_store

MAX_NAME_CHARS = 200


def run(options: argparse.Namespace) -> int:
    """Close the month, or check it."""
    prices = _digests(options.prices)
    by = _user() if options.by is None else options.by
    if not 0 < len(by.strip()) <= MAX_NAME_CHARS or not is_writable(by):
        raise InvalidInput([f"--by takes a text of 1 to {MAX_NAME_CHARS} characters, got {by!r}"])
    progress = ProgressLine(options.clock, sys.stderr, _progress_text)

    async def close() -> Header | Refused:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store())
            closing = Closing(
                store=store,
                tables=store,
                clock=options.clock,
                month=options.month,
                by=by.strip(),
                attempt=system_dice().randbytes(8).hex(),
                prices=prices,
                is_forced=options.force,
            )
            if options.check:
                return await closing.check()
            return await closing.run(await _hub(stack), progress.show)

    try:
        result = asyncio.run(close())
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted: run it again; what was written of it does not count", file=sys.stderr)
        return 130
    finally:
        progress.clear()
    return _say(result, options)


def _say(result: Header | Refused, options: argparse.Namespace) -> int:
    match result:
        case Refused():
            return _refuse(options.month.name, result, is_forced=options.force)
        case Header():
            for reason in result.document["forced"]:
                print(f"forced: {printable(reason)}", file=sys.stderr)
            print(_summary(result))
            return 0


def _progress_text(progress: Progress, seconds: float) -> str:
    checked, count = progress.checked, len(progress.partitions)
    text = f"{checked} of {count} buckets, {progress.calls:,} calls, "
    text += f"{progress.calls / seconds:,.0f} calls/s"
    return text if checked < count else f"{text}, reading the snapshot back"


async def _hub(stack: AsyncExitStack) -> HubReader | str:
    """The hub, or why it cannot be asked."""
    try:
        return await stack.enter_async_context(open_hub_reader())
    except (InvalidSettings, PublishFailed, HubUnavailable) as exc:
        return str(exc)


def _refuse(month: str, refused: Refused, *, is_forced: bool) -> int:
    for reason in (*refused.final, *refused.reasons):
        print(f"error: {printable(reason)}", file=sys.stderr)
    if not refused.final and not is_forced:
        print(
            f"{month} was not closed; --force closes it anyway, and stores these reasons",
            file=sys.stderr,
        )
    return 1


def _summary(header: Header) -> str:
    totals = header.totals
    text = f"{header.month.name} is closed: {totals.get('calls', 0):,} calls, "
    if "adjustments" in totals:
        text += f"{totals['adjustments']:,} adjustments, "
    text += f"{totals.get('total_tokens', 0):,} tokens, {header.document['rows']['count']:,} rows"
    return f"{text}\nroot {header.root}"


def _digests(files: Sequence[Path]) -> list[dict[str, str]]:
    """The SHA-256 of each file, in order. Raises InvalidInput with every file that cannot be read."""
    found, problems = [], []
    for file in files:
        try:
            found.append({"file": file.name, "sha256": sha256(file.read_bytes()).hexdigest()})
        except OSError as exc:
            problems.append(f"{file}: {exc.strerror or exc}")
    if problems:
        raise InvalidInput(problems)
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
