"""What the lines of a split invoice are grouped by: dimensions, and whom a subject belongs to."""

from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter

from meter.ledger.keys import Dimensions
from meter.reports.invoice.split import Label
from meter.reports.owners import Owners
from meter.reports.query import Grouping

ALL = tuple(Grouping)


def label_of(groups: Sequence[Grouping], owners: Owners) -> Label:
    """How dimensions become the values of these groups."""

    getters = [(group.is_joined, attrgetter(group.value)) for group in groups]

    @lru_cache(maxsize=65_536)  # of a day's dimensions, each kind of use has these
    def label(dimensions: Dimensions) -> tuple[str, ...]:
        owner = owners.of(dimensions.subject)
        return tuple(get(owner if is_joined else dimensions) for is_joined, get in getters)

    return label
