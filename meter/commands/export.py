"""`python -m meter export`: writes the report's files to a folder or a container."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meter.commands.console.parser import CommandParser
from meter.commands.output import focus_terms
from meter.commands.progress import ProgressLine
from meter.errors import InvalidInput
from meter.reports.export.export import Outcome
from meter.reports.export.layout import MANIFEST, Encoding
from meter.reports.focus.terms import FocusTerms
from meter.window import Window
from meter.wiring.books import read_price_book
from meter.wiring.stored.current import known_backends, stored_documents

if TYPE_CHECKING:
    from meter.wiring.sources import Money


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Export, and say what was written."""
    from meter.wiring.exports import run_export
    from meter.wiring.sources import current_export_settings

    settings = current_export_settings()
    place = options.to or options.container or settings.container
    if place is None:
        parser.error(
            "one of --to and --container is required, unless METER_EXPORT_CONTAINER is set"
        )
    if options.currency and not options.prices:
        parser.error("argument --currency: takes effect with --prices only")
    if place is settings.container and settings.problems:
        raise InvalidInput(settings.problems)
    progress = ProgressLine[Reading](options.clock, sys.stderr, _progress_text)
    try:
        done = asyncio.run(
            run_export(
                place,
                _money(options),
                wanted=options.wanted,
                encoding=Encoding(options.format) if options.format else None,
                clock=options.clock,
                watch=lambda rows, window: progress.show(Reading(rows, window)),
            )
        )
    finally:
        progress.clear()
    for line in _lines(done, place, options.wanted):
        print(line)
    for failure in done.manifest.failed:
        print(f"error: {failure.month} is left as it was: {failure.reason}", file=sys.stderr)
    return 1 if done.manifest.failed else 0


class Reading(NamedTuple):
    """How far the reading of one report is."""

    rows: int
    window: Window


def _progress_text(read: Reading, _seconds: float) -> str:
    return f"{read.rows:,} rows read, at {read.window.name}"


def _money(options: argparse.Namespace) -> "Money":
    """What the options name, else what the settings do."""
    from meter.wiring.sources import configured_money

    default = FocusTerms()
    is_said = (options.billing_account, options.focus_version) != (
        default.billing_account,
        default.version,
    )
    return configured_money(
        book=read_price_book(options.prices, options.currency) if options.prices else None,
        prices=options.prices,
        capacity=options.capacity,
        focus=focus_terms(options, known_backends()) if is_said else None,
        documents=stored_documents(),
    )


def _lines(done: Outcome, place: Path | str, wanted: Window | None) -> list[str]:
    manifest = done.manifest
    final = wanted is not None and manifest.is_final(wanted.month)
    if final and not done.written and not done.unchanged:
        assert wanted is not None
        return [f"{wanted.month.name} is closed, and final in {place}: nothing is written again"]
    sizes = sum(entry.bytes for entry in done.written)
    return [
        *(f"{entry.path}  {entry.rows:,} rows" for entry in done.written),
        f"{len(done.written):,} files written ({sizes:,} bytes), {done.unchanged:,} as they were; "
        f"{MANIFEST} lists {len(manifest.files):,}"
        + (f", days to {manifest.complete_to}" if manifest.complete_to else ""),
    ]
