"""Writes changes of subjects beside the aggregator, which writes the same rows.

Rows are merged under their etags: neither side loses what the other wrote, and after a conflict a row is
read and built again. A hundred rows are one transaction, so what a crash leaves is whole hundreds, and a
repeat writes the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import batched

from meter.ledger.keys import escape
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ledger.views.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ports import Row, RowStore
from meter.reports.subjects.changes import Change
from meter.reports.subjects.entry import EDITABLE, editable_text


async def write_changes(
    store: RowStore, changes: Sequence[Change], *, wrote: Callable[[int], None] = lambda _n: None
) -> None:
    """Write the changes in their order; `wrote` is told how many are written so far.

    Raises StorageUnavailable.
    """
    rows = OptimisticRows(store=store, remembers=("Subject", *EDITABLE.values()), expects_new=True)
    if len(changes) > 1:
        await rows.learn(SUBJECTS_TABLE, SUBJECTS_PARTITION)
    written = 0
    for some in batched(changes, MAX_TRANSACTION_ROWS, strict=False):
        by_key = {escape(change.subject): change for change in some}
        await rows.change(
            SUBJECTS_TABLE, SUBJECTS_PARTITION, list(by_key), partial(_changed, by_key)
        )
        written += len(some)
        wrote(written)


def _changed(changes: Mapping[str, Change], stored: Mapping[str, Row]) -> list[Row]:
    rows = (_row(key, change, stored.get(key)) for key, change in changes.items())
    return [row for row in rows if row is not None]


def _row(key: str, change: Change, stored: Row | None) -> Row | None:
    """The row to merge; None where somebody wrote the same. One that is not known may still be there."""
    before = {} if stored is None else stored.columns
    columns: dict[str, object] = {
        EDITABLE[name]: after
        for name, (_, after) in change.texts.items()
        if stored is None or editable_text(before.get(EDITABLE[name])) != after
    }
    if not columns:
        return None
    if before.get("Subject") != change.subject:
        columns["Subject"] = change.subject
    return Row(key=key, columns=columns, etag=None if stored is None else stored.etag)
