"""What a payer is called on the lines of a report, however it is grouped.

Idle units have no caller: where a line cannot say who or what, it says `(idle)`, and whose share it
is. So a share of a team is a line of that team without a subject: how a team divides it is its own
matter.
"""

from collections.abc import Callable, Sequence
from functools import cache

from meter.ledger.keys import Dimensions
from meter.reports.capacity.entries import Entry, Holder, HolderKind, Payer
from meter.reports.owners import Owners
from meter.reports.pricing.book import PROVISIONED
from meter.reports.query import Grouping

IDLE = "(idle)"


def names_for(
    entry: Entry, groups: Sequence[Grouping], owners: Owners
) -> Callable[[Payer], tuple[str, ...]]:
    """How to name the payers of an entry by these groups."""

    @cache
    def names_of(payer: Payer) -> tuple[str, ...]:
        match payer:
            case Dimensions():
                return tuple(_name_of_call(group, payer, owners) for group in groups)
            case _:
                return tuple(_name_of_idle(group, payer, entry, owners) for group in groups)

    return names_of


def _name_of_call(group: Grouping, call: Dimensions, owners: Owners) -> str:
    if group.is_joined:
        return str(getattr(owners.of(call.subject), group))
    return str(getattr(call, group))


def _name_of_idle(group: Grouping, holder: Holder | None, entry: Entry, owners: Owners) -> str:
    match group:
        case Grouping.BACKEND if entry.backend:
            return entry.backend
        case Grouping.DEPLOYMENT if entry.deployment:
            return entry.deployment
        case Grouping.TIER:
            return PROVISIONED
        case Grouping.SUBJECT | Grouping.NAME | Grouping.TEAM | Grouping.COST_CENTRE if holder:
            return _name_of_holder(group, holder, owners)
        case _:
            return IDLE


def _name_of_holder(group: Grouping, holder: Holder, owners: Owners) -> str:
    if group.value == holder.kind.value:
        return holder.name
    if holder.kind is HolderKind.SUBJECT:
        return str(getattr(owners.of(holder.name), group))
    return f"{IDLE} {holder}"
