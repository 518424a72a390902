"""A report on many rows: `python -m bench.report` reads 1.5 million of them."""

import gc
import io

from bench.report import MONTH, StreamingStore, example_book
from meter.ports import Row
from meter.reports.query import Grouping, Query
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.window import Window


async def test_only_groups_are_held() -> None:
    """While 9,000 rows are read, no more of them exist than a page of each partition that is read."""
    held: list[int] = []

    def count(rows: int, window: Window) -> None:
        held.append(sum(type(each) is Row for each in gc.get_objects()))

    report = usage_report(
        StreamingStore(60),  # type: ignore[arg-type]  # of a store it has what reports read
        Query(first=MONTH, last=MONTH, groups=(Grouping.TEAM,)),
        book=example_book(),
        watch=count,
    )
    total = await write_report(report, Format.TABLE, io.StringIO())

    assert total.sums.calls == 7 * 9_000
    assert total.unpriced == []
    assert len(held) == 9
    assert max(held) < 500
