"""Builders for exports: stores with usage, exports of them, and what their files hold."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from meter.ports import RowStore
from meter.reports.export.export import Export, Outcome
from meter.reports.export.layout import MANIFEST, Encoding
from meter.reports.export.source import Source
from meter.reports.export.target import ExportTarget
from meter.reports.export.writers import Writers, write_csv_gz
from meter.reports.pricing.book import PriceBook
from meter.upkeep.closing.views import closed_views
from meter.usage import TokenUsage
from meter.window import Window
from tests.fakes.export import MemoryTarget
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import views_on
from tests.support.reports import row

NIGHT = datetime(2026, 11, 24, 2, 15, tzinfo=UTC)
"""The night after the 23rd of November."""
RETENTION = timedelta(days=100)


@dataclass(slots=True)
class Usage:
    """Calls of 1,000 prompt tokens on days, in a store's views; each day's calls can grow."""

    store: MemoryRowStore = field(default_factory=MemoryRowStore)
    _calls: dict[tuple[str, str], int] = field(default_factory=dict)
    _revision: int = 0

    async def add(self, day: str, subject: str = "alice", calls: int = 1) -> None:
        """Count calls; the views of the day and of its month show them."""
        self._revision += 1
        rows = []
        for window in (day, day[:7]):
            key = (window, subject)
            self._calls[key] = self._calls.get(key, 0) + calls
            rows.append(row(window, subject, calls=self._calls[key]))
        await views_on(self.store).write(
            [type(each)(key=each.key, sums=each.sums, revision=self._revision) for each in rows]
        )


async def export_of(
    store: RowStore,
    target: ExportTarget,
    *,
    now: datetime = NIGHT,
    wanted: str | None = None,
    book: PriceBook | None = None,
    encoding: Encoding | None = None,
    writers: Writers | None = None,
    **source: Any,
) -> Outcome:
    """One run of an export."""
    views = await closed_views(store)
    export = Export(
        source=Source(
            store=views,
            closed=views.closed.by_month.keys(),
            corrections=views.corrections,
            book=book,
            **source,
        ),
        target=target,
        clock=FakeClock(moment=now),
        retention=RETENTION,
        writers=writers or Writers(tables={Encoding.CSV: write_csv_gz}),
        new_file=io.BytesIO,
        encoding=encoding,
    )
    return await export.run(None if wanted is None else Window(wanted))


def manifest_in(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest as JSON."""
    document: dict[str, Any] = json.loads(files[MANIFEST])
    return document


def rows_in(data: bytes) -> list[dict[str, str]]:
    """The rows of a gzipped CSV file."""
    return list(csv.DictReader(io.StringIO(gzip.decompress(data).decode("utf-8"))))


def data_paths(target: MemoryTarget, kind: str = "") -> Sequence[str]:
    """The paths of an export's files, without the manifest."""
    return sorted(
        path for path in target.files if path != MANIFEST and path.startswith(f"v1/{kind}")
    )


def tokens(count: int) -> TokenUsage:
    """So many prompt tokens."""
    return TokenUsage(prompt_tokens=count, total_tokens=count)
