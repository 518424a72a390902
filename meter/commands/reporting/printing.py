"""Reads a report and writes it, with what has to be said beside it."""

import argparse
import sys
from dataclasses import replace

from meter.commands.capacity import (
    costs_of,
    summary_of,
)
from meter.commands.console.screen import table_screen
from meter.commands.output import focus_terms, open_output, page_terms
from meter.commands.progress import ProgressLine
from meter.commands.reporting.arrangement import names_for
from meter.commands.reporting.reading import Reading, clearing, progress_text, watching
from meter.reports.arrange.arrange import Arrangement, arranged
from meter.reports.capacity.entries import Capacity
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.unpriced import unpriced_pieces
from meter.reports.query import (
    Query,
)
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.terminal.table import Piece
from meter.wiring.commands import known_backends, open_views


async def print_report(
    query: Query,
    book: PriceBook | None,
    capacity: Capacity | None,
    wanted: Arrangement,
    options: argparse.Namespace,
) -> list[Piece]:
    """Write the report; gives what is to be told beside it."""
    progress = ProgressLine[Reading](options.clock, sys.stderr, progress_text)
    now, form = options.clock.now(), Format(options.format)
    focus = focus_terms(options, known_backends()) if form is Format.FOCUS else None

    page = page_terms(query, options)
    read = query if page is None else page.read
    watch = watching(progress)
    async with open_views() as store:
        with open_output(options.out, form) as out:
            try:
                costs = await costs_of(capacity, store, read, book, now=now, watch=watch)
                corrections = await store.corrections(query.windows() if query.is_by_month else ())
                report = usage_report(
                    store,
                    read,
                    book=book,
                    capacity=costs,
                    corrections=corrections if page is None else page.placed(corrections),
                    as_of=now,
                    watch=watch,
                )
                if form.lists_rows:
                    report = arranged(report, wanted, await names_for(store, query, form))
                report = replace(report, rows=clearing(progress, report.rows))
                total = await write_report(
                    report, form, out, focus=focus, page=page, screen=table_screen(form, out)
                )
            finally:
                progress.clear()
    return [*unpriced_pieces(total), *summary_of(capacity, costs, form)]
