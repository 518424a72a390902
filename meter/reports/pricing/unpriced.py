"""Says what of a report has no price, and how much of it there is: the largest first."""

from collections.abc import Iterator

from meter.reports.pricing.cost import Unpriced
from meter.reports.rows import UsageRow
from meter.terminal.table import Piece, numbers, table_of, texts

MOST_UNPRICED = 20


def unpriced_pieces(total: UsageRow) -> Iterator[Piece]:
    """A warning, and a table of at most `MOST_UNPRICED` lines; nothing if all has a price."""
    found = sorted(total.unpriced, key=lambda each: (-abs(each[1]), each[0]))
    if not found:
        return
    yield "warning: usage without a price is not in the cost:"
    columns = [*numbers("quantity"), *texts(*Unpriced._fields)]
    cells = [(f"{quantity:,}", *(text or "unknown" for text in key)) for key, quantity in found]
    yield table_of(columns, cells[:MOST_UNPRICED], advice="--format json")
    if (more := len(found) - MOST_UNPRICED) > 0:
        yield f"... and {more} more: the JSON lists all"
