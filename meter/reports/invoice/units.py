"""Whose the billed hours of provisioned units are, as a capacity file shares them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction

from meter.gateway.backend import Backend
from meter.ports import RowStore
from meter.reports.capacity.costs import Names
from meter.reports.capacity.entries import Capacity, Entry
from meter.reports.capacity.lines import names_for
from meter.reports.capacity.reading import read_day_shares
from meter.reports.invoice.billed import Accounts, BilledMeter
from meter.reports.owners import Owners
from meter.reports.pricing.book import ANY
from meter.reports.query import Grouping, query_between
from meter.usage import Tier
from meter.window import Period, Window

_HOURS = 24


@dataclass(frozen=True, slots=True)
class _Units:
    """The units of one capacity entry: the accounts that have them, and their payers by day."""

    entry: Entry
    accounts: frozenset[str]
    by_day: Mapping[date, Mapping[Names, Fraction]]

    def are_of(self, meter: BilledMeter) -> bool:
        """Whether the meter bills them."""
        assert meter.meaning is not None
        types = (ANY, "", self.entry.deployment_type)
        return meter.account in self.accounts and (
            meter.meaning.deployment_type in types or not self.entry.deployment_type
        )


@dataclass(frozen=True, slots=True)
class UnitHours:
    """The PTU-hours of each payer; none without a capacity file."""

    units: Sequence[_Units] = field(default=())

    def of(self, meter: BilledMeter) -> dict[Names, Fraction]:
        """The hours of a day that the meter bills, by payer: all units of the account, for 24 hours."""
        found: dict[Names, Fraction] = {}
        for each in self.units:
            if not each.are_of(meter):
                continue
            for names, share in each.by_day.get(meter.day, {}).items():
                hours = share * each.entry.ptus * _HOURS
                found[names] = found.get(names, Fraction(0)) + hours
        return found


async def read_unit_hours(
    store: RowStore,
    month: Window,
    capacity: Capacity,
    *,
    backends: Sequence[Backend],
    accounts: Accounts,
    groups: Sequence[Grouping],
    owners: Owners,
) -> UnitHours:
    """The hours of a month. Raises StorageUnavailable, LedgerDamaged, InvalidInput."""
    query = query_between(month.start, month.end, Period.MONTH)
    found = []
    for shares in await read_day_shares(store, query, capacity):
        name_of = names_for(shares.entry, groups, owners)
        by_day = {
            day: _added_up((name_of(payer), share) for payer, share in payers.items())
            for day, payers in shares.by_day.items()
        }
        found.append(_Units(shares.entry, _accounts_of(shares.entry, backends, accounts), by_day))
    return UnitHours(found)


def _accounts_of(entry: Entry, backends: Iterable[Backend], accounts: Accounts) -> frozenset[str]:
    """The accounts of the entry's backend, or of those that serve its deployment with units."""
    found = {
        accounts.of(each.resource_id)
        for each in backends
        if each.resource_id and _has_units(each, entry)
    }
    return frozenset(account for account in found if account is not None)


def _has_units(backend: Backend, entry: Entry) -> bool:
    if entry.backend:
        return backend.name == entry.backend
    return (
        backend.serves(entry.deployment)
        and backend.terms_of(entry.deployment).tier is Tier.PROVISIONED
    )


def _added_up(shares: Iterable[tuple[Names, Fraction]]) -> dict[Names, Fraction]:
    found: dict[Names, Fraction] = {}
    for names, share in shares:
        found[names] = found.get(names, Fraction(0)) + share
    return found
