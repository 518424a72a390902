"""`python -m meter deadletters`: list what could not be counted, look at it, count what is fine now."""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from meter import bootstrap
from meter.ledger.decode import Reason
from meter.ledger.keys import FIRST_KEY, LAST_KEY, parse_letter_key
from meter.ports import RowStore
from meter.terminal import aligned, cut, printable
from meter.upkeep.replay import (
    Judgement,
    Replay,
    ReplaySummary,
    StoredLetter,
    find_letter,
    has_reason,
    read_letters,
)
from meter.usage import format_time
from meter.window import Period, parse_window

MAX_DETAIL_CHARS = 100


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words."""
    parser = commands.add_parser("deadletters", help="what could not be counted")
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="one line a dead letter")
    _add_selection(listing)
    listing.add_argument("--format", choices=["table", "json"], default="table")
    listing.set_defaults(run=partial(_list, listing))
    show = actions.add_parser("show", help="the body of one, all of it")
    show.add_argument("key", metavar="KEY", type=_key, help="as `list` shows it")
    show.add_argument("--out", type=Path, metavar="FILE", help="write it there, byte for byte")
    show.set_defaults(run=_show)
    replay = actions.add_parser(
        "replay",
        help="count those that are fine now",
        description="Counts events that are fine now, each once and in the window of its own time, "
        "and deletes their rows. Exits with 0 when all are counted.",
    )
    replay.add_argument(
        "keys", metavar="KEY", type=_key, nargs="*", help="as `list` shows them; default: all"
    )
    _add_selection(replay)
    replay.add_argument(
        "--file", type=Path, metavar="FILE", help="count this in place of the body of one KEY"
    )
    replay.add_argument("--dry-run", action="store_true", help="tell, and count nothing")
    replay.set_defaults(run=partial(_replay, replay))


def _add_selection(parser: argparse.ArgumentParser) -> None:
    day = "YYYY-MM or YYYY-MM-DD, UTC, when it was enqueued; without either also undated ones"
    parser.add_argument("--from", dest="first", metavar="DAY", help=day)
    parser.add_argument("--to", dest="last", metavar="DAY", help="all of it included")
    parser.add_argument("--reason", choices=[reason.value for reason in Reason])


def _list(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    days = _days(parser, options)

    async def read() -> list[tuple[dict[str, object], tuple[str, ...]]]:
        async with bootstrap.open_store() as store:
            # Not the letters: their bodies can be long.
            selected = _selected(store, days, options.reason)
            return [(_described(letter), _line(letter)) async for letter in selected]

    found = asyncio.run(read())
    if options.format == "json":
        print(json.dumps([each for each, _ in found], indent=2, ensure_ascii=False))
        return 0
    if not found:
        print("no dead letters")
        return 0
    head = ("KEY", "ENQUEUED", "BYTES", "REASON", "DETAIL")
    body = [line for _, line in found]
    print("\n".join(aligned(head, body, text_columns=range(len(head)), is_ruled=False)))
    reasons = Counter(str(each["reason"]) for each, _ in found)
    counts = ", ".join(f"{count} {printable(reason)}" for reason, count in sorted(reasons.items()))
    print(f"{len(found)} dead letters: {counts}")
    return 0


def _show(options: argparse.Namespace) -> int:
    async def read() -> StoredLetter | None:
        async with bootstrap.open_store() as store:
            return await find_letter(store, options.key)

    letter = asyncio.run(read())
    if letter is None or letter.body is None:
        print(f"error: {_absence(options.key, letter)}", file=sys.stderr)
        return 1
    print(f"{printable(letter.reason)}: {printable(letter.detail)}", file=sys.stderr)
    if options.out is not None:
        options.out.write_bytes(letter.body)
    elif sys.stdout.isatty():
        print(printable(letter.body.decode(errors="backslashreplace")))
    else:
        sys.stdout.buffer.write(letter.body)
    return 0


def _replay(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    days = _days(parser, options)
    has_filter = bool(options.first or options.last or options.reason)
    if options.keys and has_filter:
        parser.error("name KEYs, or say --reason, --from or --to, not both")
    if options.file is not None and len(options.keys) != 1:
        parser.error("--file takes the place of the body of one KEY")
    body = None if options.file is None else options.file.read_bytes()
    absent: list[str] = []

    async def named(store: RowStore) -> AsyncIterator[StoredLetter]:
        for key in dict.fromkeys(options.keys):
            letter = await find_letter(store, key)
            if letter is None:
                absent.append(key)
            else:
                yield letter if body is None else replace(letter, body=body)

    async def run() -> ReplaySummary:
        async with bootstrap.open_aggregator() as aggregator:
            store = aggregator.store
            letters = named(store) if options.keys else _selected(store, days, options.reason)
            replaying = Replay(aggregator=aggregator, is_dry_run=options.dry_run)
            return await replaying.run(
                letters, lambda judgement: _tell(judgement, is_dry_run=options.dry_run)
            )

    summary = asyncio.run(run())
    for key in absent:
        print(f"error: {_absence(key, None)}", file=sys.stderr)
    print(_conclusion(summary, is_dry_run=options.dry_run))
    return 1 if summary.refused or absent else 0


def _key(text: str) -> str:
    try:
        parse_letter_key(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return text


def _days(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[str, str]:
    try:
        windows = [parse_window(text) for text in (options.first, options.last) if text]
    except ValueError as exc:
        parser.error(str(exc))
    if any(window.period is Period.HOUR for window in windows):
        parser.error("--from and --to take YYYY-MM or YYYY-MM-DD")
    if not windows:
        return FIRST_KEY, LAST_KEY
    # Days are partitions: a month's name sorts before its days, and `~` after them.
    return options.first or FIRST_KEY, f"{options.last or '9999'}{LAST_KEY}"


async def _selected(
    store: RowStore, days: tuple[str, str], reason: str | None
) -> AsyncIterator[StoredLetter]:
    first, last = days
    async for letter in read_letters(store, first_day=first, last_day=last):
        if has_reason(letter, None if reason is None else Reason(reason)):
            yield letter


def _described(letter: StoredLetter) -> dict[str, object]:
    return {
        "key": letter.key,
        "reason": letter.reason,
        "detail": letter.detail,
        "hub_partition": letter.hub_partition,
        "sequence_number": letter.sequence_number,
        "enqueued_at": format_time(letter.enqueued_at) if letter.enqueued_at else None,
        "body_bytes": None if letter.body is None else len(letter.body),
    }


def _line(letter: StoredLetter) -> tuple[str, ...]:
    moment = f"{letter.enqueued_at:%Y-%m-%dT%H:%M:%SZ}" if letter.enqueued_at else "-"
    size = "incomplete" if letter.body is None else str(len(letter.body))
    return letter.key, moment, size, letter.reason, cut(letter.detail, MAX_DETAIL_CHARS)


def _absence(key: str, letter: StoredLetter | None) -> str:
    if letter is None:
        return f"there is no dead letter {printable(key)}"
    return f"the body of {printable(key)} is not all there yet: its batch comes again"


def _tell(judgement: Judgement, *, is_dry_run: bool) -> None:
    key, count = printable(judgement.letter.key), len(judgement.events)
    if not judgement.refusals:
        print(f"{key}: {'fine now' if is_dry_run else 'counted'}, {_calls(count)}")
        return
    partly = f"{_calls(count)} of it {'fine' if is_dry_run else 'counted'}; " if count else ""
    for refusal in judgement.refusals:
        print(f"{key}: refused, {partly}{printable(refusal)}")


def _conclusion(summary: ReplaySummary, *, is_dry_run: bool) -> str:
    if is_dry_run:
        return f"{summary.replayed} would be counted, {summary.refused} refused (a dry run)"
    return (
        f"{summary.replayed} replayed, {summary.refused} refused; "
        f"{_calls(summary.new_calls)} counted now, {summary.repeated_calls} before"
    )


def _calls(count: int) -> str:
    return f"{count} call" if count == 1 else f"{count} calls"
