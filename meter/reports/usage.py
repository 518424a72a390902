"""The analysts' report: the view tables added up by window and by what they ask to group by."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from meter.ledger.fold import Sums
from meter.ledger.rows import read_sums
from meter.ledger.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.terminal import aligned
from meter.usage import format_time
from meter.window import Period, Window, parse_window, window_of


class Grouping(StrEnum):
    """What rows can be told apart by, beside their window."""

    SUBJECT = "subject"
    DEPLOYMENT = "deployment"
    MODEL = "model"
    TIER = "tier"


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked: windows of one length from `first` to `last`, both included."""

    period: Period
    first: Window
    last: Window
    groups: tuple[Grouping, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a window, the names it is grouped by (in the query's order), what was counted."""

    window: Window
    names: tuple[str, ...]
    sums: Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The lines in order of window and names, and their total."""

    query: Query
    lines: tuple[Line, ...]

    @property
    def total(self) -> Sums:
        """All lines added up."""
        return sum((line.sums for line in self.lines), Sums())


def make_query(
    *, by: str, first: str | None, last: str | None, groups: str, now: datetime
) -> Query:
    """Read the command's words. Raises ValueError that says what is accepted.

    A day stands for all of its hours, a month for all of its days. Without `first` the report
    begins with the current month, without `last` it ends now.
    """
    period = Period(by)
    start = parse_window(first).start if first else window_of(now, Period.MONTH).start
    end = _last_moment(parse_window(last)) if last else now
    query = Query(
        period=period,
        first=window_of(start, period),
        last=window_of(end, period),
        groups=_groupings(groups),
    )
    if start > end:
        raise ValueError(f"--from {first or query.first.name} is after --to {last or 'now'}")
    return query


async def read_report(store: RowStore, query: Query) -> Report:
    """Add the view up. Raises StorageUnavailable."""
    added: dict[tuple[Window, tuple[str, ...]], Sums] = {}
    async for window, row in _rows(store, query):
        names = tuple(str(row.columns.get(group.capitalize(), "")) for group in query.groups)
        added[window, names] = added.get((window, names), Sums()) + read_sums(row.columns)
    lines = [Line(window=w, names=n, sums=added[w, n]) for w, n in sorted(added)]
    return Report(query=query, lines=tuple(lines))


def write_report(report: Report, form: Format) -> str:
    """The report as text, ending with a line end."""
    match form:
        case Format.TABLE:
            return _as_table(report)
        case Format.CSV:
            return _as_csv(report)
        case Format.JSON:
            return _as_json(report)


async def _rows(store: RowStore, query: Query) -> AsyncIterator[tuple[Window, Row]]:
    rows = store.scan(
        VIEW_TABLES[query.period],
        first_partition=query.first.name,
        last_partition=query.last.name,
    )
    async for partition, row in rows:
        yield Window(partition), row


def _groupings(text: str) -> tuple[Grouping, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        groups = tuple(Grouping(name) for name in names)
    except ValueError:
        accepted = ", ".join(Grouping)
        raise ValueError(f"--group takes {accepted}, comma-separated; got {text!r}") from None
    if len(set(groups)) < len(groups):
        raise ValueError(f"--group names something twice: {text!r}")
    return groups


def _last_moment(window: Window) -> datetime:
    return datetime.fromtimestamp(window.end.timestamp() - 1, tz=window.end.tzinfo)


_COUNTS: dict[str, tuple[str, Callable[[Sums], int]]] = {
    "calls": ("calls", lambda sums: sums.calls),
    "failed_calls": ("failed", lambda sums: sums.failed_calls),
    "prompt_tokens": ("prompt", lambda sums: sums.tokens.prompt_tokens),
    "completion_tokens": ("completion", lambda sums: sums.tokens.completion_tokens),
    "total_tokens": ("total", lambda sums: sums.tokens.total_tokens),
    "cached_tokens": ("cached", lambda sums: sums.tokens.cached_tokens),
    "reasoning_tokens": ("reasoning", lambda sums: sums.tokens.reasoning_tokens),
    "audio_tokens": ("audio", lambda sums: sums.tokens.audio_tokens),
    "image_tokens": ("image", lambda sums: sums.tokens.image_tokens),
    "seconds": ("seconds", lambda sums: sums.tokens.seconds),
    "estimated_calls": ("estimated", lambda sums: sums.estimated_calls),
    "missing_calls": ("missing", lambda sums: sums.missing_calls),
    "adjustments": ("adjustments", lambda sums: sums.adjustments),
    "adjusted_prompt_tokens": ("adj. prompt", lambda sums: sums.adjusted.prompt_tokens),
    "adjusted_completion_tokens": ("adj. compl.", lambda sums: sums.adjusted.completion_tokens),
    "adjusted_total_tokens": ("adj. total", lambda sums: sums.adjusted.total_tokens),
}
# Columns of the table that are left out where no line has anything in them.
_ALWAYS = frozenset({"calls", "prompt_tokens", "completion_tokens", "total_tokens"})


def _as_table(report: Report) -> str:
    total = report.total
    every = [line.sums for line in report.lines]  # corrections may add up to nothing
    shown = [name for name in _COUNTS if name in _ALWAYS or any(map(_COUNTS[name][1], every))]
    head = [report.query.period, *report.query.groups, *(_COUNTS[name][0] for name in shown)]
    if not report.lines:
        return f"No calls from {report.query.first.name} to {report.query.last.name} (UTC).\n"
    body = [[line.window.name, *line.names, *_grouped(line.sums, shown)] for line in report.lines]
    last = ["total", *("" for _ in report.query.groups), *_grouped(total, shown)]
    names = range(1 + len(report.query.groups))
    return "\n".join([*aligned(head, body, last, text_columns=names), ""])


def _grouped(sums: Sums, names: Iterable[str]) -> list[str]:
    return [f"{_COUNTS[name][1](sums):,}" for name in names]


def _as_csv(report: Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([report.query.period.value, *report.query.groups, *_COUNTS, *_MOMENTS])
    for line in report.lines:
        names = [_cell(name) for name in line.names]
        writer.writerow(
            [line.window.name, *names, *_counts(line.sums).values(), *_moments(line.sums)]
        )
    return out.getvalue()


def _cell(text: str) -> str:
    """Spreadsheets run cells that begin like a formula; an apostrophe in front keeps it text."""
    return f"'{text}" if text[:1] in set("=+-@\t\r\n＝＋－＠") else text


def _as_json(report: Report) -> str:
    query = report.query
    lines = [
        {
            query.period.value: line.window.name,
            **dict(zip(query.groups, line.names, strict=True)),
            **_counts(line.sums),
            **dict(zip(_MOMENTS, _moments(line.sums), strict=True)),
        }
        for line in report.lines
    ]
    document = {
        "by": query.period,
        "from": query.first.name,
        "to": query.last.name,
        "rows": lines,
        "total": _counts(report.total),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_MOMENTS = ("first_call_at", "last_call_at")


def _counts(sums: Sums) -> dict[str, int]:
    return {name: count(sums) for name, (_, count) in _COUNTS.items()}


def _moments(sums: Sums) -> tuple[str, str]:
    first, last = sums.first_call_at, sums.last_call_at
    return format_time(first) if first else "", format_time(last) if last else ""
