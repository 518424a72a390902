"""A month's report in money on very many rows: `python -m bench.report`, a process of its own.

The rows are those of Table Storage's day view as its service sends them, page by page; what is left
out is the network. No more than a page of them is ever held.
"""

import argparse
import asyncio
import gc
import io
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from meter.adapters.odata.entity import write_keys, write_row
from meter.adapters.odata.query import rows_of
from meter.bucket import bucket_of
from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions, SumKey
from meter.ledger.rows import SumRow
from meter.ledger.views.shards import SHARDS_TABLE
from meter.ledger.views.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row
from meter.reports.pricing.book import Price, PriceBook
from meter.reports.pricing.kinds import Kind
from meter.reports.query import Query, parse_groups
from meter.reports.rows import UsageRow
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
from meter.window import Period, Window

MONTH = Window("2026-11")
MODELS = ("gpt-5", "gpt-5-mini", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small")
TEAMS = 40
PAGE_ROWS = 1_000
SHARDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rows that were read, rows that were written, and what that took."""

    rows: int
    lines: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


class Nowhere(io.StringIO):
    """Keeps nothing of what is written."""

    def write(self, text: str, /) -> int:
        """Forget it."""
        return len(text)


class StreamingStore:
    """The day view of a month in which every subject calls every deployment on every day."""

    def __init__(self, subjects: int) -> None:
        self._subjects = [f"subject-{number:06}" for number in range(subjects)]
        self._rows = [row_text(_SUBJECT, model) for model in MODELS]

    async def scan(
        self, table: str, *, first_partition: str, last_partition: str, **_options: Any
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a table."""
        match table:
            case _ if table == SHARDS_TABLE:
                yield Period.DAY.value, Row(key=MONTH.name, columns={"Count": SHARDS})
            case _ if table == SUBJECTS_TABLE:
                for number, name in enumerate(self._subjects):
                    columns = {"Team": f"team {number % TEAMS}"}
                    yield SUBJECTS_PARTITION, Row(key=name, columns=columns)
            case _ if table == VIEW_TABLES[Period.DAY] and first_partition == last_partition:
                for page in self._pages(first_partition):
                    for each in rows_of(json.loads(page)):
                        yield each

    def _pages(self, partition: str) -> Iterator[str]:
        """Answers of the service, 1,000 rows each."""
        shard = int(partition.rpartition("~")[2])
        mine = [name for name in self._subjects if bucket_of(name) % SHARDS == shard]
        keys = write_keys(partition)
        texts = [row.replace(_SUBJECT, name) for name in mine for row in self._rows]
        for start in range(0, len(texts), PAGE_ROWS):
            yield f'{{"value":[{",".join(keys + each for each in texts[start : start + PAGE_ROWS])}]}}'


_SUBJECT = "subject-000000"


def row_text(subject: str, model: str) -> str:
    """A row of the subject and a deployment, as the service writes it."""
    sums = Sums(
        calls=7,
        tokens=TokenUsage(
            prompt_tokens=71_234,
            completion_tokens=8_123,
            total_tokens=79_357,
            cached_tokens=1_024,
            reasoning_tokens=640,
        ),
        first_call_at=datetime(2026, 11, 1, 8, 30, 12, 345678, tzinfo=UTC),
        last_call_at=datetime(2026, 11, 1, 16, 30, 12, 345678, tzinfo=UTC),
        place=("swedencentral", "global"),
    )
    names = Dimensions(subject, "app-1", model, f"{model}-2026-01-01", "east", "standard", "short")
    row = SumRow(key=SumKey(Window("2026-11-01"), names), sums=sums, revision=7)
    return write_row(Row(key=row.key.view_row_key, columns=row.columns()))


def example_book() -> PriceBook:
    """Prices of all kinds that are used, which change in the middle of the month."""
    ends = (date(2026, 1, 1), date(2026, 11, 15)), (date(2026, 11, 15), None)
    return PriceBook(
        [
            Price(
                model=model,
                kind=kind,
                unit=1_000_000,
                price=Decimal(number) / 8,
                currency="USD",
                effective_from=first,
                effective_to=end,
            )
            for number, model in enumerate(MODELS, 1)
            for kind in (Kind.INPUT, Kind.CACHED_INPUT, Kind.OUTPUT)
            for first, end in ends
        ],
        "USD",
    )


async def measure(subjects: int = 10_000, groups: str = "team") -> Measured:
    """Measure in a process of its own, whose memory nothing else has used."""
    words = ("-m", "bench.report", "--subjects", str(subjects), "--group", groups)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    return Measured(**json.loads(answer))


def report(measured: Measured) -> list[str]:
    """The section of the results."""
    return [
        "## Reports",
        "",
        f"A month in money by team: {measured.rows:,} rows of the day view, {len(MODELS)} models, "
        f"prices that change in the middle of the month, {measured.lines} lines of JSON. Rows come as "
        "the pages of Table Storage, without the network.",
        "",
        "| seconds | CPU µs a row | peak memory |",
        "|---|---|---|",
        f"| {measured.seconds:,.0f} | {1e6 * measured.cpu_seconds / measured.rows:,.0f} | "
        f"{measured.peak_mb:,.0f} MB |",
        "",
    ]


async def measure_here(subjects: int, groups: str) -> Measured:
    """Write the report of the month as JSON."""
    store = StreamingStore(subjects)
    query = Query(first=MONTH, last=MONTH, groups=parse_groups(groups))
    seen, lines = [], 0
    made = usage_report(
        store,  # type: ignore[arg-type]  # of a store it has what reports read
        query,
        book=example_book(),
        watch=lambda rows, _: seen.append(rows),
    )

    async def counted() -> AsyncIterator[UsageRow]:
        nonlocal lines
        async for row in made.rows:
            lines += 1
            yield row

    gc.collect()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    await write_report(replace(made, rows=counted()), Format.JSON, Nowhere())
    return Measured(
        rows=seen[-1],
        lines=lines,
        seconds=time.perf_counter() - begun,
        cpu_seconds=time.process_time() - cpu_begun,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def main() -> int:
    """Measure, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.report")
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--group", default="team")
    options = parser.parse_args()
    measured = asyncio.run(measure_here(options.subjects, options.group))
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
