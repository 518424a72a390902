"""Whom usage is charged to: the name, team and cost centre of each subject, from table `Subjects`.

Operators fill in DisplayName, Team and CostCentre; Name comes from tokens. What is not known has a
value of its own, so that usage is never left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meter.ledger.keys import escape
from meter.ledger.views.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ports import RowStore

_COLUMNS = ("DisplayName", "Name", "Team", "CostCentre")


class Owner(NamedTuple):
    """Whom the usage of a subject is charged to."""

    name: str = "(no name)"
    team: str = "(no team)"
    cost_centre: str = "(no cost centre)"


NO_OWNER = Owner()


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of subjects, by the subject's part of a row key."""

    by_key: Mapping[str, Owner] = field(default_factory=dict)

    def of(self, subject: str) -> Owner:
        """The owner of a subject."""
        return self.by_key.get(escape(subject), NO_OWNER)

    def of_key(self, subject_key: str) -> Owner:
        """The owner of the subject with that escaped form."""
        return self.by_key.get(subject_key, NO_OWNER)


async def read_owners(store: RowStore) -> Owners:
    """All owners. Raises StorageUnavailable."""
    found: dict[str, Owner] = {}
    shared: dict[str, str] = {}
    rows = store.scan(
        SUBJECTS_TABLE,
        first_partition=SUBJECTS_PARTITION,
        last_partition=SUBJECTS_PARTITION,
        columns=_COLUMNS,
    )
    async for _, row in rows:
        display_name, name, team, cost_centre = (_text(row.columns.get(c)) for c in _COLUMNS)
        found[row.key] = Owner(
            name=display_name or name or NO_OWNER.name,
            team=shared.setdefault(team, team) or NO_OWNER.team,
            cost_centre=shared.setdefault(cost_centre, cost_centre) or NO_OWNER.cost_centre,
        )
    return Owners(found)


def _text(value: object) -> str:
    """What somebody entered, in any type: a cost centre may be a number."""
    return "" if value is None else str(value).strip()
