"""What the lines of a split invoice are grouped by: dimensions, and whom a subject belongs to."""

from collections.abc import Sequence

from meter.ledger.keys import Dimensions
from meter.reports.invoice.split import Label
from meter.reports.owners import Owners
from meter.reports.query import Grouping

ALL = tuple(Grouping)
IN_A_TABLE = (Grouping.SUBJECT, Grouping.NAME)


def label_of(groups: Sequence[Grouping], owners: Owners) -> Label:
    """How dimensions become the values of these groups."""

    def label(dimensions: Dimensions) -> tuple[str, ...]:
        owner = owners.of(dimensions.subject)
        return tuple(
            getattr(owner if group.is_joined else dimensions, group.value) for group in groups
        )

    return label
