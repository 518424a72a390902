"""Reads the numbers of stored rows as plain tuples: there are millions, and values take long to make."""

from collections.abc import Callable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from meter.ledger.fold import Sums
from meter.ledger.rows import Place, read_sums, sums_columns
from meter.usage import COUNT_NAMES

CALL_NAMES = ("calls", "failed_calls", "estimated_calls", "missing_calls")
COUNTS = len(CALL_NAMES) + len(COUNT_NAMES)

_calls_of: "Callable[[Sums], tuple[int, ...]]" = attrgetter(*CALL_NAMES)
_COLUMNS = tuple(sums_columns(Sums()))[:COUNTS]


class Stored(NamedTuple):
    """The numbers of a row.

    `counts` are those of `CALL_NAMES`, then of `COUNT_NAMES`; `adjusted` is how many adjustments there
    were, then their counts, and empty where there were none.
    """

    counts: tuple[int, ...]
    adjusted: tuple[int, ...]
    first_call_at: datetime | None
    last_call_at: datetime | None


def read_stored(columns: Mapping[str, object], at: Place) -> Stored:
    """The numbers of a stored row. Raises LedgerDamaged, which names the cell."""
    counts = tuple(map(columns.get, _COLUMNS))
    if set(map(type, counts)) != {int} or "Adjustments" in columns:
        return _read_with_care(columns, at)
    first, last = columns.get("FirstCallAt"), columns.get("LastCallAt")
    if not (isinstance(first, datetime) and isinstance(last, datetime) and counts[0]):
        return _read_with_care(columns, at)
    return Stored(counts, (), first, last)  # type: ignore[arg-type]  # all are whole numbers


def _read_with_care(columns: Mapping[str, object], at: Place) -> Stored:
    sums = read_sums(columns, at)
    return Stored(
        (*_calls_of(sums), *sums.tokens),
        (sums.adjustments, *sums.adjusted) if sums.adjustments else (),
        sums.first_call_at,
        sums.last_call_at,
    )
