"""Writes a reconciliation: a table for people in a narrow terminal, JSON for programs."""

from collections.abc import Iterable, Iterator
from typing import TextIO

from meter.reports.reconcile import Line, Reconciliation, Standing
from meter.reports.tally import JUDGED_TOKENS, Pair
from meter.reports.write.json import document_text
from meter.reports.write.report import Format
from meter.terminal import cut, printable, shown_document
from meter.terminal.plain import PlainScreen
from meter.terminal.table import Column, Piece, Screen, table_of, texts
from meter.window import Window

FORMATS = (Format.TABLE, Format.JSON)
MOST_HOURS = 10
_MOST_NAMES = 3
_LONGEST_LABEL = 32
_SHORTEST_ACCOUNT = 8


def write_reconciliation(
    found: Reconciliation, form: Format, out: TextIO, screen: Screen | None = None
) -> None:
    """Write it in one of `FORMATS`. Raises ValueError for another one."""
    match form:
        case Format.TABLE:
            (screen or PlainScreen(out)).show(*_table(found))
        case Format.JSON:
            out.write(f"{shown_document(document_text(_document(found)), out)}\n")
        case _:
            raise ValueError(
                f"a reconciliation is written as {' or '.join(FORMATS)}, not as {form}"
            )


def verdict(found: Reconciliation) -> str:
    """The verdict in one line."""
    if not found.judged:
        return "NOTHING COMPARED: no deployment of an account with a resource_id"
    size = f"difference {_signed(found.total.difference('total_tokens'))} tokens"
    if found.total.recorded.total_tokens:
        size += f" ({_percent(found.total, 'total_tokens')})"
    if found.agrees:
        return f"AGREES within {_tolerance(found)}: {size}"
    labels = [_shortened(line.label) for line in found.beyond]
    names = ", ".join(labels[:_MOST_NAMES])
    if len(labels) > _MOST_NAMES:
        names += f" and {len(labels) - _MOST_NAMES} more"
    return f"DIFFERS beyond {_tolerance(found)}: {size}, in {names}"


type _Cells = tuple[str, ...]

_ADVICE = "--format json"
_NUMBERS = [Column(heading=name, rank=rank) for name, rank in (("counted", 3), ("azure", 2))]
_NUMBERS += [Column(heading="difference"), Column(heading="%", rank=1)]


def _columns(first: str) -> list[Column]:
    return [*texts(first), *_NUMBERS, *texts("")]


def _table(found: Reconciliation) -> Iterator[Piece]:
    query = found.terms.query
    parts: list[list[Piece]] = [[f"{query.first.name} to {query.last.name}, whole hours, UTC"]]
    compared = [line for line in found.lines if line.standing is not Standing.NOT_COMPARABLE]
    if compared:
        rows = [row for line in compared for row in _line_rows(line)]
        total = _row("total", found.total, "total_tokens", "")
        parts.append([table_of(_columns("tokens"), rows, total, advice=_ADVICE)])
    if differing := _differing_hours(compared):
        rows = [_hour_row(line, window, pair) for line, window, pair in differing[:MOST_HOURS]]
        parts.append([table_of(_columns("hour"), rows, advice=_ADVICE)])
        if (more := len(differing) - MOST_HOURS) > 0:
            parts[-1].append(f"... and {more} more hours: the JSON lists all")
    reasons: list[Piece] = [
        f"not comparable: {printable(line.label)}, "
        f"{line.sums.counted.total_tokens:,} tokens counted; {printable(line.reason)}"
        for line in found.lines
        if line.standing is Standing.NOT_COMPARABLE
    ]
    parts += [reasons, [f"note: {note}" for note in found.terms.notes], [verdict(found)]]
    for number, part in enumerate(filter(None, parts)):
        yield from ["", *part] if number else part


def _line_rows(line: Line) -> Iterator[_Cells]:
    pair = line.sums
    yield _row(_shortened(line.label), pair, "total_tokens", line.standing)
    if pair.gap:
        yield _row("  prompt", pair, "prompt_tokens", "")
        yield _row("  completion", pair, "completion_tokens", "")
        yield _row("  calls", pair, "calls", _uncertain(pair))
    if line.tiers is not None and len(line.tiers) > 1:
        for tier, tokens in line.tiers.items():
            yield _row(f"  {tier}", tokens, "total_tokens", "")
    if line.spilled is not None and line.spilled != Pair():
        yield _row("  spilled calls", line.spilled, "calls", "")


def _hour_row(line: Line, window: Window, pair: Pair) -> _Cells:
    remarks = ", ".join(filter(None, (_shortened(line.label), _uncertain(pair))))
    return _row(window.name, pair, "total_tokens", remarks)


def _row(label: str, pair: Pair, name: str, remark: str) -> _Cells:
    return (
        label,
        f"{getattr(pair.counted, name):,}",
        f"{getattr(pair.recorded, name):,}",
        _signed(pair.difference(name)),
        _percent(pair, name),
        remark,
    )


def _differing_hours(lines: Iterable[Line]) -> list[tuple[Line, Window, Pair]]:
    found = [(line, *hour) for line in lines for hour in line.hours.items() if hour[1].gap]
    return sorted(found, key=lambda each: (-each[2].gap, each[1], each[0].label))


def _uncertain(pair: Pair) -> str:
    """The number of calls without exact tokens, which may explain a difference."""
    counts = {"estimated": pair.counted.estimated_calls, "missing": pair.counted.missing_calls}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "0"


def _percent(pair: Pair, name: str) -> str:
    share = _share(pair, name)
    return "-" if share is None else f"{share:+.2f}%" if share else "0.00%"


def _share(pair: Pair, name: str) -> float | None:
    """The difference in per cent of Azure's number; None where Azure has none."""
    recorded: int = getattr(pair.recorded, name)
    if recorded:
        return round(100 * pair.difference(name) / recorded, 6)
    return None if pair.difference(name) else 0.0


def _tolerance(found: Reconciliation) -> str:
    return f"{float(found.terms.tolerance * 100):g}%"


def _shortened(label: str) -> str:
    """The label, with the account's name rather than the deployment's shortened."""
    text = printable(label)
    account, _, name = text.rpartition("/")
    if account and len(text) > _LONGEST_LABEL:
        text = f"{cut(account, max(_SHORTEST_ACCOUNT, _LONGEST_LABEL - len(name) - 1))}/{name}"
    return cut(text, _LONGEST_LABEL)


def _document(found: Reconciliation) -> dict[str, object]:
    terms = found.terms
    return {
        "from": terms.query.first.name,
        "to": terms.query.last.name,
        "tolerance_percent": float(terms.tolerance * 100),
        "agrees": found.agrees,
        "verdict": verdict(found),
        "total": _numbers(found.total),
        "deployments": [_line_json(line, found) for line in found.lines],
        "notes": list(terms.notes),
    }


def _line_json(line: Line, found: Reconciliation) -> dict[str, object]:
    return {
        "deployments": list(line.names),
        "azure": [{"resource_id": own.resource_id, "deployment": own.name} for own in line.own],
        "backend": line.backend or None,
        "standing": line.standing,
        "reason": line.reason,
        "is_beyond_tolerance": line in found.beyond,
        **_numbers(line.sums),
        "tiers": _tiers_json(line),
        "spilled_calls": None if line.spilled is None else _number(line.spilled, "calls"),
        "differing_hours": [
            {"hour": window.name, **_numbers(pair)} for _, window, pair in _differing_hours([line])
        ],
    }


def _numbers(pair: Pair) -> dict[str, object]:
    numbers: dict[str, object]
    numbers = {name: _number(pair, name) for name in (*JUDGED_TOKENS, "calls")}
    uncertain = {name: getattr(pair.counted, name) for name in ("estimated_calls", "missing_calls")}
    return numbers | uncertain


def _number(pair: Pair, name: str) -> dict[str, object]:
    return {
        "counted": getattr(pair.counted, name),
        "azure": getattr(pair.recorded, name),
        "difference": pair.difference(name),
        "percent": _share(pair, name),
    }


def _tiers_json(line: Line) -> dict[str, object] | None:
    """Total tokens by tier; None where Azure does not split them."""
    if line.tiers is None:
        return None
    return {str(tier): _number(pair, "total_tokens") for tier, pair in line.tiers.items()}
