"""A year's report by day and subject as a file: `python -m bench.files csv`, a process of its own.

The rows are those of Table Storage's day view as its service sends them, page by page; what is left
out is the network. Files are written as the command writes them, to a disk.
"""

import argparse
import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.report import MODELS, example_book, row_text
from meter.adapters.odata.entity import write_keys
from meter.adapters.odata.query import rows_of
from meter.commands.output import open_output
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row
from meter.reports.query import Query, parse_groups
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.window import Period, Window, window_of

FIRST = Window("2026-01-01")
FORMATS = (Format.CSV, Format.JSON, Format.PARQUET, Format.XLSX)
DAYS = (10, 40)
PAGE_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rows that were written in a format, and what that took."""

    form: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    file_mb: float


class YearStore:
    """The day view of a range in which every subject calls one deployment on every day."""

    def __init__(self, subjects: int) -> None:
        text = row_text("subject-000000", MODELS[0])
        self._texts = [text.replace("subject-000000", f"subject-{n:06}") for n in range(subjects)]

    async def scan(
        self, table: str, *, first_partition: str, last_partition: str, **_options: Any
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a table, of which others than the view are empty."""
        if table != VIEW_TABLES[Period.DAY]:
            return
        day = Window(first_partition)
        while day.name <= last_partition:
            for page in self._pages(day.name):
                for each in rows_of(json.loads(page)):
                    yield each
            day = window_of(day.end, Period.DAY)

    def _pages(self, partition: str) -> Iterator[str]:
        keys = write_keys(partition)
        for start in range(0, len(self._texts), PAGE_ROWS):
            rows = self._texts[start : start + PAGE_ROWS]
            yield f'{{"value":[{",".join(keys + each for each in rows)}]}}'


async def measure(subjects: int = 10_000) -> list[Measured]:
    """Measure each format with few and with many days, each in a process of its own."""
    return [await _measure(form, subjects, days) for form in FORMATS for days in DAYS]


async def _measure(form: Format, subjects: int, days: int) -> Measured:
    words = (form.value, "--subjects", str(subjects), "--days", str(days))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.files", *words, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    return Measured(**json.loads(answer))


def report(measured: list[Measured]) -> list[str]:
    """The section of the results."""
    return [
        "## Files",
        "",
        "A report in money by day and subject, 10,000 subjects a day. Memory must not grow with the days: a "
        "year has 3,650,000 rows.",
        "",
        "| format | rows | CPU µs a row | peak memory | file |",
        "|---|---|---|---|---|",
        *(
            f"| {each.form} | {each.rows:,} | {1e6 * each.cpu_seconds / each.rows:,.0f} | "
            f"{each.peak_mb:,.0f} MB | {each.file_mb:,.0f} MB |"
            for each in measured
        ),
        "",
    ]


async def measure_here(form: Format, subjects: int, days: int, folder: Path) -> Measured:
    """Write the report."""
    last = window_of(FIRST.start + timedelta(days=days - 1), Period.DAY)
    query = Query(first=FIRST, last=last, groups=parse_groups("subject"))
    store: Any = YearStore(subjects)
    made = usage_report(store, query, book=example_book(), as_of=last.end)
    path = folder / f"usage.{form.value}"
    gc.collect()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    with open_output(path, form) as out:
        await write_report(made, form, out)
    return Measured(
        form=form.value,
        rows=subjects * days,
        seconds=time.perf_counter() - begun,
        cpu_seconds=time.process_time() - cpu_begun,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        file_mb=path.stat().st_size / 1e6,
    )


def main() -> int:
    """Measure, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.files")
    parser.add_argument("form", choices=[form.value for form in FORMATS])
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        form = Format(options.form)
        measured = asyncio.run(measure_here(form, options.subjects, options.days, Path(folder)))
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
