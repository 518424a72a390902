"""Reads the hours of capacity entries from the hour view, and shares each entry over them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, time

from meter.errors import InvalidInput
from meter.ledger.keys import DIMENSION_NAMES, Dimensions, view_range, view_window
from meter.ledger.rows import ADJUSTMENT_COLUMNS, Place, read_sums
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.reports.capacity.entries import Entry
from meter.reports.capacity.sharing import Sharing, Tokens
from meter.reports.pricing.book import PROVISIONED
from meter.reports.query import Grouping, Query, query_between
from meter.reports.usage import WATCHED_ROWS, Watch
from meter.window import Period, Window

_TABLE = VIEW_TABLES[Period.HOUR]
_DIMENSIONS = tuple(Grouping(name).column for name in DIMENSION_NAMES)
_COUNTS = ("PromptTokens", "CompletionTokens", "CachedTokens")
_COLUMNS = (
    *_DIMENSIONS,
    *_COUNTS,
    *sorted(ADJUSTMENT_COLUMNS),
)

type _Used = Sequence[Mapping[Dimensions, Tokens]]
"""What was used in an hour, per entry."""


async def share_hours[K](
    store: RowStore,
    query: Query,
    sharings: Sequence[Sharing[K]],
    *,
    watch: Watch | None = None,
) -> None:
    """Share each entry over the hours of the query on which it is valid, and close it.

    All entries are valid on a day of it. Raises StorageUnavailable, LedgerDamaged, and InvalidInput
    for calls that several entries claim and models without a ratio.
    """
    if not sharings:
        return
    entries = [sharing.entry for sharing in sharings]
    hourly = _hourly(query, entries)
    hours = hourly.windows()
    nothing: _Used = [{} for _ in entries]
    async for hour, used in _read(store, hourly, entries, watch):
        for each in hours:
            _add(each, used if each == hour else nothing, sharings)
            if each == hour:
                break
    for each in hours:
        _add(each, nothing, sharings)
    _close(sharings)


def _hourly(query: Query, entries: Sequence[Entry]) -> Query:
    """The hours of the query from the first to the last on which any entry is valid."""
    start = max(query.first.start, _midnight(min(entry.first for entry in entries)))
    end = query.last.end
    ends = [entry.end for entry in entries if entry.end is not None]
    if len(ends) == len(entries):
        end = min(end, _midnight(max(ends)))
    return query_between(start, end, Period.HOUR)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _add[K](hour: Window, used: _Used, sharings: Sequence[Sharing[K]]) -> None:
    for sharing, tokens in zip(sharings, used, strict=True):
        if sharing.entry.is_valid_on(hour.start.date()):
            sharing.add(hour, tokens)


def _close[K](sharings: Sequence[Sharing[K]]) -> None:
    problems: list[str] = []
    for sharing in sharings:
        try:
            sharing.close()
        except InvalidInput as exc:
            problems += exc.problems
    if problems:
        raise InvalidInput(problems)


async def _read(
    store: RowStore, hourly: Query, entries: Sequence[Entry], watch: Watch | None
) -> AsyncIterator[tuple[Window, _Used]]:
    """The hours in which an entry was used, in order."""
    begun, read = "", 0
    used = [dict[Dimensions, Tokens]() for _ in entries]
    valid: list[tuple[int, Entry]] = []
    first, last = view_range(hourly.first, hourly.last)
    rows = store.scan(_TABLE, first_partition=first, last_partition=last, columns=_COLUMNS)
    async for partition, row in rows:
        read += 1
        if watch is not None and read % WATCHED_ROWS == 0:
            watch(read, Window(view_window(partition)))
        if row.columns.get("Tier") != PROVISIONED:
            continue
        hour = view_window(partition)
        if hour != begun:
            if begun:
                yield Window(begun), used
            begun, used = hour, [{} for _ in entries]
            day = Window(hour).start.date()
            valid = [each for each in enumerate(entries) if each[1].is_valid_on(day)]
        dimensions = Dimensions(*(str(row.columns.get(name, "")) for name in _DIMENSIONS))
        index = _entry_of(dimensions, valid)
        if index is not None:
            used[index][dimensions] = _tokens(row, partition)
    if begun:
        yield Window(begun), used


def _entry_of(dimensions: Dimensions, entries: Sequence[tuple[int, Entry]]) -> int | None:
    """The place of the entry whose units served such calls."""
    found = [
        each
        for each in entries
        if each[1].serves(
            backend=dimensions.backend, deployment=dimensions.deployment, tier=dimensions.tier
        )
    ]
    if len(found) > 1:
        (_, one), (_, other), *_ = found
        raise InvalidInput(
            [
                f"{other.place}: calls of deployment {dimensions.deployment} on backend "
                f"{dimensions.backend} are on the units of two entries, also those of {one.place}: "
                "name the deployments of that backend one by one"
            ]
        )
    return found[0][0] if found else None


def _tokens(row: Row, partition: str) -> Tokens:
    """The counts that normalised tokens are made of, adjustments included. Raises LedgerDamaged."""
    counts = tuple(map(row.columns.get, _COUNTS))
    if set(map(type, counts)) == {int} and "Adjustments" not in row.columns:
        return Tokens(*counts)  # type: ignore[arg-type]  # all are whole numbers
    sums = read_sums(row.columns, Place(_TABLE, partition, row.key))
    used = sums.tokens + sums.adjusted
    return Tokens(used.prompt_tokens, used.completion_tokens, used.cached_tokens)
