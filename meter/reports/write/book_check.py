"""Writes the check of a price book: a table for people, JSON for programs."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TextIO

from meter.reports.pricing.book import Price
from meter.reports.pricing.check import BookCheck, Extent, Finding, Standing
from meter.reports.write.json import document_text
from meter.reports.write.report import Format
from meter.terminal import printable, shown_document
from meter.terminal.plain import PlainScreen
from meter.terminal.table import Column, Piece, Screen, numbers, table_of, texts

FORMATS = (Format.TABLE, Format.JSON)
MOST_LINES = 20
_ADVICE = "--format json"

_HEAD = ("quantity", "kind", "model", "tier", "context", "deployment type", "region", "days")
_RANKS = {"days": 1, "tier": 2, "context": 3, "region": 4, "deployment type": 5}
_ASIDE = {
    Standing.AMBIGUOUS: "equally good rows",
    Standing.CHARGED_AS_PARENT: "charged as",
}
_TITLES = {
    Standing.UNPRICED: "without a price",
    Standing.AMBIGUOUS: "with several prices that are equally good",
    Standing.CHARGED_AS_PARENT: "charged at another kind's price, having none of its own",
    Standing.BY_CAPACITY: "of provisioned capacity, paid by the hour",
}


def write_book_check(
    check: BookCheck, form: Format, out: TextIO, screen: Screen | None = None
) -> None:
    """Write it in one of `FORMATS`. Raises ValueError for another one."""
    match form:
        case Format.TABLE:
            (screen or PlainScreen(out)).show(*_table(check))
        case Format.JSON:
            out.write(f"{shown_document(document_text(_document(check)), out)}\n")
        case _:
            raise ValueError(f"a check is written as {' or '.join(FORMATS)}, not as {form}")


def verdict(check: BookCheck) -> str:
    """The verdict in one line."""
    if not check.has_usage:
        return f"NO USAGE in {check.month.name}"
    if check.is_priced:
        return "PRICED: all usage has one price"
    unpriced = len(check.with_standing(Standing.UNPRICED))
    ambiguous = len(check.with_standing(Standing.AMBIGUOUS))
    return f"NOT PRICED: {unpriced} without a price, {ambiguous} ambiguous"


def _table(check: BookCheck) -> Iterator[Piece]:
    month = check.month
    last_day = month.end - timedelta(days=1)
    yield f"{month.start:%Y-%m-%d} to {last_day:%Y-%m-%d} UTC, prices in {check.currency}"
    for standing in _TITLES:
        if found := check.with_standing(standing):
            yield from ("", f"usage {_TITLES[standing]}:", *_findings(standing, found))
    if check.ties:
        yield from ("", "rows that would be equally good for other usage:", *_ties(check.ties))
    if check.unused:
        yield from ("", "rows that no usage is charged at:", *_rows(check.unused))
    yield ""
    if any(_has_no_place(finding) for finding, _ in check.with_standing(Standing.UNPRICED)):
        yield (
            "note: region and deployment type are unknown where METER_BACKENDS does not have them, and "
            "then only rows with * match"
        )
    yield (
        f"rows of the book: {check.used:,} used, {len(check.unused):,} unused, "
        f"{check.others:,} of other months or of capacity"
    )
    yield verdict(check)


def _has_no_place(finding: Finding) -> bool:
    return not (finding.usage.region and finding.usage.deployment_type)


def _findings(standing: Standing, found: Sequence[tuple[Finding, Extent]]) -> Iterator[Piece]:
    aside = _ASIDE.get(standing)
    lines = []
    for finding, extent in found[:MOST_LINES]:
        usage = finding.usage
        names = (usage.model, usage.tier, usage.context, usage.deployment_type, usage.region)
        days = [f"{day:%Y-%m-%d}" for day in (min(extent.days), max(extent.days))]
        span = days[0] if len(extent.days) == 1 else f"{len(extent.days)}, {' to '.join(days)}"
        cells = [f"{extent.quantity:,}", usage.kind, *(name or "unknown" for name in names), span]
        lines.append([*cells, ", ".join(finding.detail)] if aside else cells)
    head = [*numbers(*_HEAD[:1]), *_columns(_HEAD[1:]), *texts(*([aside] if aside else []))]
    yield table_of(head, lines, is_ruled=False, advice=_ADVICE)
    yield from _more(found)


def _columns(headings: Sequence[str]) -> list[Column]:
    return [Column(heading=each, is_text=True, rank=_RANKS.get(each, 0)) for each in headings]


def _ties(ties: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield from (printable(" and ".join(rows)) for rows in ties[:MOST_LINES])
    yield from _more(ties)


def _rows(prices: Sequence[Price]) -> Iterator[Piece]:
    cells = [
        (
            each.place,
            *(each.kind, each.model, each.tier, each.context, each.deployment_type, each.region),
        )
        for each in prices[:MOST_LINES]
    ]
    yield table_of([*texts("row"), *_columns(_HEAD[1:-1])], cells, is_ruled=False, advice=_ADVICE)
    yield from _more(prices)


def _more(found: Sequence[object]) -> Iterator[str]:
    if (more := len(found) - MOST_LINES) > 0:
        yield f"... and {more:,} more: the JSON lists all"


def _document(check: BookCheck) -> dict[str, object]:
    def usage_with(standing: Standing) -> list[dict[str, object]]:
        return [_usage_json(*each) for each in check.with_standing(standing)]

    return {
        "month": check.month.name,
        "currency": check.currency,
        "is_priced": check.is_priced,
        "verdict": verdict(check),
        **{standing.value: usage_with(standing) for standing in _TITLES},
        "ties": [list(rows) for rows in check.ties],
        "unused": [_row_json(price) for price in check.unused],
        "rows": {"used": check.used, "unused": len(check.unused), "others": check.others},
    }


def _usage_json(finding: Finding, extent: Extent) -> dict[str, object]:
    document: dict[str, object] = {
        **finding.usage._asdict(),
        "quantity": extent.quantity,
        "days": [day.isoformat() for day in sorted(extent.days)],
    }
    if finding.standing is Standing.AMBIGUOUS:
        document["rows"] = list(finding.detail)
    elif finding.standing is Standing.CHARGED_AS_PARENT:
        (document["charged_as"],) = finding.detail
    return document


def _row_json(price: Price) -> dict[str, object]:
    return {
        "row": price.place,
        "model": price.model,
        "kind": price.kind,
        "tier": price.tier,
        "context": price.context,
        "deployment_type": price.deployment_type,
        "region": price.region,
        "meter_id": price.meter_id,
        "meter_name": price.meter_name,
    }
