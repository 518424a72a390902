"""Counted usage as plain Python values, for notebooks and scripts: the rows of `python -m meter report`.

    from meter.reading import read_usage
    frame = pandas.DataFrame(read_usage(by="day", first="2026-11", group=("team", "model")))

The SDK's own rows have `EntityProperty` objects, which sums join end to end. Here counts are `int`, moments
aware `datetime` in UTC, amounts of money and percentages `Decimal`, names `str`. It needs no event loop and
disturbs none: storage is read in a thread of its own, so that it works in Jupyter, too.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from meter.reports.columns import Cells, Column
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.money import exact_decimal
from meter.reports.query import DEFAULT_GROUPS, Query, RangeError, make_query, parse_groups
from meter.reports.rows import UsageRow
from meter.reports.usage import Report, usage_report
from meter.window import Period, Window, parse_window, window_of
from meter.wiring.books import read_price_book
from meter.wiring.commands import open_views, storage_environment

ROWS_AT_ONCE = 1_000
# The arguments by the names that they have as options.
_ARGUMENTS = {"--from": "first", "--to": "last", "--by ": "by="}

type Plain = int | Decimal | str | datetime | list[str] | None
"""What a row has: None where it is not known."""
type When = str | date | datetime
"""A window: `2026-11`, `2026-11-23` or `2026-11-23T07`; a date, or the hour of an aware moment."""


def read_usage(
    *,
    by: str = "month",
    first: When | None = None,
    last: When | None = None,
    group: Sequence[str] = DEFAULT_GROUPS,
    prices: str | Path | Sequence[str | Path] = (),
    currency: str | None = None,
    storage: str | None = None,
) -> Iterator[dict[str, Plain]]:
    """The usage per window and group, in the order of windows and names, read while it is taken.

    The arguments are the options of `report`: `by` hour, day or month; `first` and `last` inclusive, by
    default the start of this month and now (UTC); `group` any of subject, name, team, cost_centre,
    client_app, deployment, model, backend, tier and context. With `prices`, the files of a price book,
    rows have what their usage costs, with all digits: an amount without a last digit has 20 decimals.

    `storage` is a connection string, or the address of the account's tables, to which one signs in as
    with `az login`; by default both are what the commands' environment says (`MeterStorage...`).

    The keys are the names of the report's columns, and `window_start`. Raises ValueError for arguments,
    InvalidInput for prices and InvalidSettings for the environment before anything is read; then
    StorageUnavailable, of which NotSignedIn and AccessDenied say why, LedgerDamaged and AmbiguousPrice.
    """
    query = _query(_period(by), first, last, [group] if isinstance(group, str) else group)
    files = [prices] if isinstance(prices, str | Path) else prices
    book = read_price_book([Path(file) for file in files], currency) if files else None
    if currency is not None and book is None:
        raise ValueError("currency takes effect with prices only")
    return _in_a_thread(query, book, storage_environment(storage))


def _query(period: Period, first: When | None, last: When | None, group: Sequence[str]) -> Query:
    try:
        return make_query(
            period=period,
            first=None if first is None else _window(first),
            last=None if last is None else _window(last),
            groups=parse_groups(",".join(group)),
            now=datetime.now(UTC),
        )
    except RangeError as exc:
        text = str(exc)
        for option, argument in _ARGUMENTS.items():
            text = text.replace(option, argument)
        raise ValueError(text) from None


def _period(by: str) -> Period:
    try:
        return Period(by)
    except ValueError:
        raise ValueError(f"by is one of {', '.join(Period)}; got {by!r}") from None


def _window(when: When) -> Window:
    match when:
        case str():
            return parse_window(when)
        case datetime() if when.tzinfo is None:
            raise ValueError(f"a moment needs its time zone, such as datetime.UTC; got {when!r}")
        case datetime():
            return window_of(when, Period.HOUR)
        case _:
            return parse_window(when.isoformat())


def _in_a_thread(
    query: Query, book: PriceBook | None, environment: Mapping[str, str]
) -> Iterator[dict[str, Plain]]:
    """The rows, some at a time, from a thread with an event loop; both end with the iterator."""
    with ThreadPoolExecutor(1, "meter-reading") as thread:
        runner, rows = asyncio.Runner(), _rows(query, book, environment)
        try:
            while some := thread.submit(runner.run, _next_of(rows)).result():
                yield from some
        finally:
            thread.submit(runner.run, rows.aclose()).result()
            thread.submit(runner.close).result()


async def _next_of(rows: AsyncIterator[dict[str, Plain]]) -> list[dict[str, Plain]]:
    some: list[dict[str, Plain]] = []
    async for row in rows:
        some.append(row)
        if len(some) == ROWS_AT_ONCE:
            break
    return some


async def _rows(
    query: Query, book: PriceBook | None, environment: Mapping[str, str]
) -> AsyncGenerator[dict[str, Plain]]:
    async with open_views(environment) as store:
        windows = query.windows() if query.period is Period.MONTH else ()
        corrections = await store.corrections(windows)
        report = usage_report(store, query, book=book, corrections=corrections)
        async for row in report.rows:
            yield _plain_row(report, row)


def _plain_row(report: Report, row: UsageRow) -> dict[str, Plain]:
    found: dict[str, Plain] = {}
    for column in report.columns:
        found[column.name] = _plain(column, row)
        if column.cells is Cells.WINDOW and row.window is not None:
            found["window_start"] = row.window.start
    return found


def _plain(column: Column, row: UsageRow) -> Plain:
    value = column.get(row)
    match value:
        case Fraction():
            return exact_decimal(value)
        case tuple():
            return [str(each) for each in value]
        case str() if column.cells is Cells.MOMENT:
            return datetime.fromisoformat(value) if value else None
        case str():
            return str(value)
        case _:
            return value
