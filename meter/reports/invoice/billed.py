"""What Azure billed: the rows of its exports added up by day, account, meter and charge.

An export may have any number of rows, but there are few meters per day. So rows are added while they
are read, and only their sums are held.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from meter.errors import InvalidInput
from meter.gateway.backend import Backend
from meter.reports.invoice.amounts import EXACT, ONE, ZERO, parse_amount, total
from meter.reports.invoice.columns import Cells
from meter.reports.invoice.days import parse_day
from meter.reports.invoice.meaning import (
    Described,
    Meaning,
    Measured,
    ReadMeter,
    refuse,
    unit_text,
)
from meter.window import Window

_FIRST_OF_FEW = Cells._fields.index("currency")
_MOST_KNOWN = 200_000
_AS_EXPORTED = [(1, 0), (2, 0)]
# Before the account's name in an id, its type included.
_PARTS_OF_ID = 9


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of the backends: their ids as the backends document has them, by lower-case id."""

    ids: Mapping[str, str]

    def of(self, resource_id: str) -> str | None:
        """The account of a resource, which is itself or a part of it, such as a project."""
        parts = f"/{resource_id.strip().strip('/').lower()}".split("/")
        return self.ids.get("/".join(parts[:_PARTS_OF_ID]))

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts in lower case, one of which is in every row of one of the accounts."""
        return tuple(f"/accounts/{each.rpartition('/')[2]}" for each in self.ids)


def accounts_of(backends: Iterable[Backend]) -> Accounts:
    """The accounts of those backends that have one."""
    ids = [each.resource_id for each in backends if each.resource_id]
    return Accounts({each.lower(): each for each in reversed(ids)})


@dataclass(slots=True)
class Charge:
    """The rows of one meter, day and type of charge, negative ones apart from others.

    `unread` is the quantity, as exported, of rows without a unit that can be read.
    """

    type: str
    cost: Decimal = ZERO
    quantity: Decimal = ZERO
    unread: Decimal = ZERO
    rows: int = 0


@dataclass(slots=True, kw_only=True)
class BilledMeter:
    """What a meter billed an account on one day. Quantities are in units of its kind.

    `reason` says why it cannot be split. Where its meaning is not known, its quantity is as the export
    has it. `size` is how many of its kind it is priced for.
    """

    day: date
    account: str
    described: Described
    meaning: Meaning | None = None
    size: int = 1
    reason: str = ""
    charges: dict[tuple[str, bool], Charge] = field(default_factory=dict)

    def understand(self, measured: Measured) -> None:
        """Note what it charges for. A credit may have no unit that says so."""
        if self.meaning is None:
            self.meaning, self.size, self.reason = measured.meaning, measured.size, ""

    def add(self, charge: Charge, *, is_negative: bool) -> None:
        """Add the rows of a file."""
        found = self.charges.setdefault((charge.type, is_negative), Charge(charge.type))
        found.cost = EXACT.add(found.cost, charge.cost)
        found.quantity = EXACT.add(found.quantity, charge.quantity)
        if self.meaning is None:
            found.quantity = EXACT.add(found.quantity, charge.unread)
        found.rows += charge.rows

    @property
    def meter_id(self) -> str:
        """Azure's id of the meter."""
        return self.described.meter_id

    @property
    def meter_name(self) -> str:
        """Azure's name of the meter."""
        return self.described.name

    @property
    def is_mapped(self) -> bool:
        """Whether counted use can be compared with it."""
        return not self.reason

    @property
    def quantity(self) -> Decimal:
        """What was billed in all."""
        return total(each.quantity for each in self.charges.values())

    @property
    def cost(self) -> Decimal:
        """What that costs."""
        return total(each.cost for each in self.charges.values())


type _MeterKey = tuple[date, str, str, str]
type _ChargeKey = tuple[_MeterKey, str, bool]
"""A meter, a type of charge, and whether its rows are negative."""


@dataclass(slots=True)
class _Slot:
    """Where rows with the same texts are added, by sign.

    Their quantity is in the first of these columns that has one; the size of its unit is 0 where it
    cannot be read.
    """

    charges: tuple[Charge, Charge]
    sizes: Sequence[tuple[int, int]]


@dataclass(slots=True)
class Bill:
    """The billed meters of a month, while exports are read."""

    month: Window
    accounts: Accounts
    read_meter: ReadMeter
    currency: str = ""
    rows: int = 0
    other_days: set[date] = field(default_factory=set)
    """Days outside of the month for which the accounts have rows."""
    _files: dict[str, dict[_ChargeKey, Charge]] = field(default_factory=dict)
    _file: dict[_ChargeKey, Charge] = field(default_factory=dict)
    _meters: dict[_MeterKey, BilledMeter] = field(default_factory=dict)
    _known: dict[Sequence[str], _Slot | None] = field(default_factory=dict)

    def begin(self, file: str) -> None:
        """Begin to add the rows of a file, which has not been added yet."""
        self._file = self._files[file] = {}
        self._known.clear()

    def add(self, cells: Sequence[str], place: Callable[[], str]) -> None:
        """Add a row of any resource, which has the texts of `Cells`. Raises InvalidInput."""
        few = cells[_FIRST_OF_FEW:]
        try:
            slot = self._known[few]
        except KeyError:
            if len(self._known) == _MOST_KNOWN:
                self._known.clear()
            slot = self._known[few] = self._slot(Cells(*cells), place)
        if slot is None:
            return
        cost = _amount(cells[0], "cost", place)
        charge = slot.charges[cost < 0]
        charge.cost = EXACT.add(charge.cost, cost)
        for column, size in slot.sizes:
            if text := cells[column]:
                quantity = EXACT.multiply(_amount(text, "quantity", place), size or ONE)
                if size:
                    charge.quantity = EXACT.add(charge.quantity, quantity)
                else:
                    charge.unread = EXACT.add(charge.unread, quantity)
                break
        charge.rows += 1
        self.rows += 1

    def by_day(self) -> dict[date, list[BilledMeter]]:
        """What was billed by day; the meters of a day are in order."""
        for meter in self._meters.values():
            meter.charges.clear()
        for file in self._files.values():
            for (key, _, is_negative), charge in file.items():
                if charge.rows:
                    self._meters[key].add(charge, is_negative=is_negative)
        found: dict[date, list[BilledMeter]] = {}
        for (day, *_), meter in sorted(self._meters.items()):
            found.setdefault(day, []).append(meter)
        return found

    def repeats(self) -> Iterator[tuple[str, str]]:
        """Files most of whose charges are those of an earlier one, too, and that one.

        An export that runs daily has the month to date each time: two of its runs are counted twice.
        """
        files = [
            (name, {key: (c.cost, c.quantity) for key, c in charges.items() if c.cost})
            for name, charges in self._files.items()
        ]
        for place, (name, charges) in enumerate(files):
            for earlier, others in files[:place]:
                same = charges.items() & others.items()
                if charges and 2 * len(same) >= min(len(charges), len(others)):
                    yield name, earlier
                    break

    def _slot(self, cells: Cells, place: Callable[[], str]) -> _Slot | None:
        account = self.accounts.of(cells.resource)
        if account is None:
            return None
        try:
            day = parse_day(cells.day)
        except ValueError as exc:
            raise refuse(place(), f"the date {exc}") from None
        if f"{day:%Y-%m}" != self.month.name:
            self.other_days.add(day)
            return None
        self._check_currency(cells.currency.strip().upper(), place)
        key, sizes = self._meter(cells, account, day)
        charges = tuple(
            self._file.setdefault((key, cells.charge, is_negative), Charge(cells.charge))
            for is_negative in (False, True)
        )
        return _Slot((charges[0], charges[1]), sizes)

    def _meter(
        self, cells: Cells, account: str, day: date
    ) -> tuple[_MeterKey, list[tuple[int, int]]]:
        described = _described(cells, unit_text(cells.unit))
        key = (day, account, described.meter_id.lower(), described.name)
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = BilledMeter(day=day, account=account, described=described)
        sizes = []
        for column, unit in _units(cells):
            read = self.read_meter(_described(cells, unit))
            if isinstance(read, Measured):
                sizes.append((column, read.size))
                meter.understand(read)
            elif meter.meaning is None:
                meter.reason = meter.reason or read.reason
        return key, sizes or _AS_EXPORTED

    def _check_currency(self, currency: str, place: Callable[[], str]) -> None:
        if not currency:
            raise refuse(place(), "the row has no billing currency")
        if self.currency and currency != self.currency:
            raise refuse(
                place(),
                f"the row is in {currency}, others are in {self.currency}: amounts of several "
                "currencies are never added up",
            )
        self.currency = currency


def _units(cells: Cells) -> list[tuple[int, str]]:
    """The columns with a quantity, the best first, and their units of measure.

    The priced quantity of FOCUS is best where its unit has a size: whether Azure's consumed quantity
    is in blocks or in single units is not documented alike everywhere.
    """
    consumed = (1, unit_text(cells.unit))
    text = cells.priced_unit_text.strip()
    if text.lower() in ("", "-2", "unassigned"):
        text = cells.priced_unit.strip()
    if not text and not cells.block:
        return [consumed]
    priced = (2, unit_text(text, cells.block))
    has_size = bool(cells.block) or text[:1].isdigit()
    return [priced, consumed] if has_size else [consumed, priced]


def _described(cells: Cells, unit: str) -> Described:
    return Described(
        meter_id=cells.meter_id.strip(),
        name=cells.meter_name.strip(),
        group=cells.meter_group.strip(),
        product=cells.product.strip(),
        unit=unit,
    )


def _amount(text: str, name: str, place: Callable[[], str]) -> Decimal:
    try:
        return parse_amount(text)
    except ValueError as exc:
        raise InvalidInput([f"{place()}: the {name} {exc}"]) from None
