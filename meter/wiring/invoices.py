"""Opens the files of a cost export, and the usage to split them by, for the commands."""

from collections.abc import Sequence
from pathlib import Path

from meter.adapters.exports.files import read_exports, read_lines
from meter.adapters.exports.watch import Watch
from meter.errors import InvalidInput
from meter.gateway.backend import Backend
from meter.ports import RowStore
from meter.reports.capacity.entries import Capacity
from meter.reports.invoice.billed import Bill, accounts_of
from meter.reports.invoice.columns import Metric
from meter.reports.invoice.grouping import label_of
from meter.reports.invoice.reading import meter_reader, read_mapping
from meter.reports.invoice.split import Split
from meter.reports.invoice.units import UnitHours, read_unit_hours
from meter.reports.owners import read_owners
from meter.reports.query import Grouping
from meter.window import Window


def read_bill(
    exports: Sequence[Path],
    mapping: Path | None,
    *,
    month: Window,
    metric: Metric,
    backends: Sequence[Backend],
    watch: Watch = lambda _file, _rows: None,
) -> Bill:
    """The month's rows of the backends' accounts. Raises InvalidInput, OSError."""
    meanings = {} if mapping is None else read_mapping(read_lines(mapping), str(mapping))
    bill = Bill(month, accounts_of(backends), meter_reader(meanings))
    read_exports(exports, metric, bill, watch)
    if bill.rows:
        return bill
    found = f"the exports have no row of {month.name} for an account of METER_BACKENDS"
    if bill.other_days:
        found += f"; they have rows from {min(bill.other_days)} to {max(bill.other_days)}"
    raise InvalidInput([found])


async def split_bill(
    bill: Bill,
    store: RowStore,
    capacity: Capacity | None,
    *,
    backends: Sequence[Backend],
    groups: Sequence[Grouping],
) -> Split:
    """The bill, ready to be split. Raises StorageUnavailable, LedgerDamaged, InvalidInput."""
    owners = await read_owners(store)
    units = UnitHours()
    if capacity is not None:
        units = await read_unit_hours(
            store,
            bill.month,
            capacity,
            backends=backends,
            accounts=bill.accounts,
            groups=groups,
            owners=owners,
        )
    label = label_of(groups, owners)
    return Split(bill=bill, backends=backends, store=store, label=label, units=units)
