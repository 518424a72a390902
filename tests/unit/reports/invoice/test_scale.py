"""Exports have any number of rows: they are added up while they are read."""

import tracemalloc
from decimal import Decimal
from pathlib import Path

from bench.invoice import ACCOUNT, write_export
from bench.report import MONTH
from meter.reports.invoice.amounts import total
from meter.reports.invoice.columns import Metric
from meter.wiring.invoices import read_bill
from tests.support.invoice import backend


def test_memory_does_not_grow_with_the_export(tmp_path: Path) -> None:
    """A file of 8 MB, all of it of one account, needs less memory than it has bytes."""
    file = tmp_path / "export.csv"
    write_export(file, 12_000, every=1)
    tracemalloc.start()
    bill = read_bill(
        [file], None, month=MONTH, metric=Metric.BILLED, backends=[backend(resource_id=ACCOUNT)]
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert file.stat().st_size > 8e6
    assert peak < 6e6
    assert bill.rows == 12_000
    cost = total(meter.cost for meters in bill.by_day().values() for meter in meters)
    assert cost == Decimal("14896.755")
