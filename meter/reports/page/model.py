"""What the page holds: built in one pass over the rows of a report, exact until it is text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from itertools import chain

from meter.reports.page.numbers import money, percent, tenths
from meter.reports.page.panels import Panel, merged, panels_of
from meter.reports.page.series import Series, series_of
from meter.reports.page.table import Json, TableRows
from meter.reports.page.tally import Tally
from meter.reports.page.terms import PAGE_GROUPS, PageTerms, chart_period
from meter.reports.pricing.cost import Unpriced
from meter.reports.pricing.money import rounded
from meter.reports.query import Grouping, Query
from meter.reports.rows import UsageRow
from meter.reports.usage import Report
from meter.terminal import printable
from meter.window import Period, Window, window_of

_MOST_UNPRICED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A key figure: its name, its value, and a line beneath. A loud one asks for attention."""

    name: str
    value: str
    note: str = ""
    is_loud: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a calendar month cost, against its budget."""

    month: str
    spent: str
    budget: str
    left: str
    share: str
    width: str
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Usage of a closed month that arrived later, or adjustments of calls."""

    name: str
    calls: str
    tokens: str
    cost: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Usage without a price, which no amount holds."""

    quantity: str
    names: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What an entry of provisioned capacity cost, and how much of it was used."""

    name: str
    first: str
    ptus: str
    hours: str
    hours_with_use: str
    utilisation: str
    width: str
    cost: str
    used: str
    idle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that the template shows. Amounts and counts are texts, made once."""

    range: str
    as_of: str
    currency: str | None
    version: str
    is_empty: bool
    figures: Sequence[Figure]
    unpriced: Sequence[Missing]
    more_unpriced: int
    spendings: Sequence[Spending]
    series: Series
    panels: Sequence[Panel]
    corrections: Sequence[Correction]
    capacity: Sequence[Units]
    table: Json


@dataclass(slots=True)
class Gathering:
    """Takes the rows of one report, in order, and makes the page of them."""

    report: Report
    terms: PageTerms
    _table: TableRows = field(init=False)
    _groups: dict[Grouping, dict[str, Tally]] = field(init=False)
    _places: list[tuple[int, dict[str, Tally]]] = field(init=False)
    _by_window: dict[Window, Tally] = field(default_factory=dict)
    _corrected: dict[Window, Tally] = field(default_factory=dict)
    _spent: dict[Window, Tally] = field(default_factory=dict)
    _owners: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read = self.report.query
        self._table = TableRows(self.terms.query, read, self.report.currency)
        self._groups = {group: {} for group in PAGE_GROUPS}
        self._places = [
            (place, self._groups[group])
            for place, group in enumerate(read.groups)
            if group in self._groups
        ]

    def add(self, row: UsageRow) -> None:
        """Add a row."""
        assert row.window is not None
        cost = row.cost
        names = row.names
        for place, found in self._places:
            _tally(found, names[place]).add(row, cost)
        if row.corrects is None:
            _tally(self._by_window, row.window).add(row, cost)
        else:
            _tally(self._corrected, row.corrects).add(row, cost)
        if self.terms.budget is not None:
            _tally(self._spent, row.window.month).add(row, cost)
        self._note_owner(names)
        self._table.add(row)

    def _note_owner(self, names: Sequence[str]) -> None:
        groups = self.report.query.groups
        if Grouping.SUBJECT in groups and Grouping.NAME in groups:
            subject = names[groups.index(Grouping.SUBJECT)]
            if subject not in self._owners:
                name, team = (names[groups.index(g)] for g in (Grouping.NAME, Grouping.TEAM))
                self._owners[subject] = _known(name), _known(team)

    def page(self, total: UsageRow) -> Page:
        """The page; `total` is that of all rows."""
        report, currency = self.report, self.report.currency
        windows = _chart_windows(self.terms.query, report.query)
        whole = merged(chain(self._by_window.values(), self._corrected.values()))
        unpriced = sorted(total.unpriced, key=lambda each: (-abs(each[1]), each[0]))
        notes = {subject: name for subject, (name, _) in self._owners.items() if name}
        columns = self._table.columns()
        for column in columns:
            if column["name"] == Grouping.SUBJECT.value:
                column["notes"] = _notes(column, self._owners)
        return Page(
            range=range_text(self.terms.query),
            as_of=f"{report.as_of:%Y-%m-%d %H:%M}" if report.as_of else "",
            currency=currency,
            version=self.terms.version,
            is_empty=not self._table.count,
            figures=_figures(whole, total, currency),
            unpriced=[_missing(*each) for each in unpriced[:_MOST_UNPRICED]],
            more_unpriced=max(0, len(unpriced) - _MOST_UNPRICED),
            spendings=self._spendings(),
            series=series_of(
                windows,
                _in_windows(self._by_window, windows),
                currency=currency,
                budget=self.terms.budget,
                as_of=report.as_of,
            ),
            panels=panels_of(self._groups, whole, currency, notes),
            corrections=self._corrections(total),
            capacity=_units(report),
            table={
                "rows": self._table.count,
                "columns": columns,
                "total": money(total.cost, currency),
                "currencyDigits": _minor(currency),
            },
        )

    def _spendings(self) -> list[Spending]:
        budget, currency = self.terms.budget, self.report.currency
        if budget is None or currency is None:
            return []
        limit = Fraction(budget)
        return [
            _spending(month, self._spent.get(month, Tally()).cost or Fraction(0), limit, currency)
            for month in self.terms.query.windows(Period.MONTH)
        ]

    def _corrections(self, total: UsageRow) -> list[Correction]:
        currency = self.report.currency
        found = [
            Correction(
                name=f"corrections of {month.name}",
                calls=f"{tally.calls:,}",
                tokens=f"{tally.total:,}",
                cost=money(tally.cost, currency),
            )
            for month, tally in sorted(self._corrected.items())
        ]
        if total.sums.adjustments:
            adjusted = None if total.charge is None else total.charge.adjusted.cost
            found.append(
                Correction(
                    name=f"{total.sums.adjustments:,} adjustments",
                    calls="",
                    tokens=f"{total.sums.adjusted.total_tokens:,}",
                    cost=money(adjusted, currency),
                )
            )
        return found


def _tally[K](found: dict[K, Tally], key: K) -> Tally:
    tally = found.get(key)
    if tally is None:
        tally = found[key] = Tally()
    return tally


def _known(name: str) -> str:
    return "" if name.startswith("(no ") else name


def _notes(column: Json, owners: dict[str, tuple[str, str]]) -> list[str]:
    """What is known of the subjects of a column: name and team."""
    texts = column["texts"]
    assert isinstance(texts, list)
    found = [owners.get(text, ("", "")) for text in texts]
    if not any(map(any, found)):
        return []
    return [" · ".join(printable(part) for part in pair if part) for pair in found]


def _minor(currency: str | None) -> int:
    exponent = 0 if currency is None else rounded(Fraction(0), currency).as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent


def _chart_windows(query: Query, read: Query) -> list[Window]:
    """The windows of the charts: none shorter than those that were read."""
    lengths = list(Period)
    period = max(chart_period(query), read.period, key=lengths.index)
    return list(query.windows(period))


def _in_windows(found: dict[Window, Tally], windows: Sequence[Window]) -> dict[Window, Tally]:
    """What was read in windows that may be shorter, by these."""
    length = len(windows[0].name)
    wide: dict[Window, Tally] = {}
    for window, tally in found.items():
        _tally(wide, Window(window.name[:length])).merge(tally)
    return wide


def range_text(query: Query) -> str:
    """The days, or hours, from the first to the last of a range."""
    if query.period is Period.HOUR:
        names = [query.first.name, query.last.name]
    else:
        last = query.last.end - timedelta(days=1)
        names = [window_of(each, Period.DAY).name for each in (query.first.start, last)]
    return names[0] if names[0] == names[1] else f"{names[0]} to {names[1]}"


def _figures(whole: Tally, total: UsageRow, currency: str | None) -> list[Figure]:
    figures = []
    if currency is not None:
        note = "not all usage has a price" if total.unpriced else "all usage has a price"
        figures.append(
            Figure(
                name=f"Cost, {currency}",
                value=money(total.cost, currency),
                note=note,
                is_loud=bool(total.unpriced),
            )
        )
    unsure = whole.estimated + whole.missing
    adjusted = total.sums.adjusted.total_tokens
    note = f"{adjusted:+,} by adjustments" if adjusted else f"{whole.prompt:,} in"
    note += "" if adjusted else f", {whole.completion:,} out"
    return [
        *figures,
        Figure(name="Tokens", value=f"{whole.total:,}", note=note),
        Figure(
            name="Calls",
            value=f"{whole.calls:,}",
            note=f"{whole.failed:,} failed ({percent(whole.failed, whole.calls)})",
        ),
        Figure(
            name="Cached share of input",
            value=percent(whole.cached, whole.prompt),
            note=f"{whole.cached:,} tokens from the cache",
        ),
        Figure(
            name="Estimated or missing",
            value=percent(unsure, whole.calls),
            note=f"{whole.estimated:,} calls estimated, {whole.missing:,} without counts",
            is_loud=whole.missing > 0,
        ),
    ]


def _spending(month: Window, spent: Fraction, limit: Fraction, currency: str) -> Spending:
    left = rounded(limit, currency) - rounded(spent, currency)
    share = spent / limit
    return Spending(
        month=month.name,
        spent=money(spent, currency),
        budget=money(limit, currency),
        left=f"{abs(left):,}",
        share=percent(spent, limit),
        width=str(tenths(100 * max(Fraction(0), min(Fraction(1), share)))),
        is_over=spent > limit,
    )


def _missing(names: Unpriced, quantity: int) -> Missing:
    return Missing(
        quantity=f"{quantity:,}", names=[printable(str(text)) or "unknown" for text in names]
    )


def _units(report: Report) -> list[Units]:
    found = []
    for each in report.capacity.entries:
        entry, whole = each.entry, each.whole
        cost, used = rounded(whole.cost, entry.currency), rounded(whole.used, entry.currency)
        found.append(
            Units(
                name=printable(entry.label),
                first=entry.first.isoformat(),
                ptus=f"{entry.ptus:,}",
                hours=f"{whole.hours:,}",
                hours_with_use=f"{whole.hours_with_use:,}",
                utilisation=f"{tenths(100 * whole.utilisation)}%",
                width=str(tenths(100 * whole.utilisation)),
                cost=f"{cost:,}",
                used=f"{used:,}",
                idle=f"{cost - used:,}",
            )
        )
    return found


UNPRICED_HEAD = tuple(name.replace("_", " ") for name in Unpriced._fields)
