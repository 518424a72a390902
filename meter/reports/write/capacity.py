"""Writes what provisioned capacity cost and how much of it was used, beside a report's rows.

The rows of a report have the money already; this says of each entry of the capacity file what the
money was for. CSV has rows alone, so there the summary goes to standard error.
"""

from collections.abc import Iterator

from meter.reports.capacity.costs import CapacityCosts, EntryTotals
from meter.reports.capacity.sharing import Totals
from meter.reports.pricing.money import amount_text, exact_decimal, rounded
from meter.terminal.table import Piece, numbers, table_of, texts

_DIGITS = 6  # of a utilisation


def capacity_pieces(costs: CapacityCosts) -> Iterator[Piece]:
    """A table for people: one line per entry, over all windows."""
    if costs.entries:
        columns = [
            *texts("capacity", "from"),
            *numbers("PTUs", "hours", "with use", "utilisation", "cost", "used", "idle"),
        ]
        yield table_of(columns, [_cells(each) for each in costs.entries])
    for each in costs.entries:
        if each.to_come:
            yield (
                f"{each.entry.label}: {each.to_come:,} of the hours are still to come; they "
                "count as hours without use"
            )


def capacity_document(costs: CapacityCosts) -> dict[str, object]:
    """All entries with their totals, and those of each of the report's windows."""
    return {"entries": [_entry_document(each) for each in costs.entries]}


def _cells(found: EntryTotals) -> list[str]:
    entry, whole = found.entry, found.whole
    cost, used = (rounded(amount, entry.currency) for amount in (whole.cost, whole.used))
    return [
        entry.label,
        entry.first.isoformat(),
        f"{entry.ptus:,}",
        f"{whole.hours:,}",
        f"{whole.hours_with_use:,}",
        f"{exact_decimal(round(100 * whole.utilisation, _DIGITS)):.1f}%",
        f"{cost:,} {entry.currency}",
        f"{used:,}",
        f"{cost - used:,}",
    ]


def _entry_document(found: EntryTotals) -> dict[str, object]:
    entry = found.entry
    return {
        "backend": entry.backend or None,
        "deployment": entry.deployment or None,
        "from": entry.first.isoformat(),
        "to": None if entry.end is None else entry.end.isoformat(),
        "ptus": entry.ptus,
        "idle_policy": entry.idle,
        "currency": entry.currency,
        **_totals_document(found.whole),
        "hours_to_come": found.to_come,
        "windows": [
            {window.period: window.name, **_totals_document(totals)}
            for window, totals in sorted(found.by_window.items())
        ],
    }


def _totals_document(totals: Totals) -> dict[str, object]:
    return {
        "hours": totals.hours,
        "hours_with_use": totals.hours_with_use,
        "cost": amount_text(totals.cost),
        "used": amount_text(totals.used),
        "idle": amount_text(totals.idle),
        "utilisation": f"{exact_decimal(round(totals.utilisation, _DIGITS)):f}",
    }
