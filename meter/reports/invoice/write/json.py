"""Writes a split invoice as JSON: its lines, what they are in all, and what could not be matched."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TextIO

from meter.reports.invoice.amounts import plain
from meter.reports.invoice.line import LineKind, MeterTotal, Totals
from meter.reports.invoice.split import Split
from meter.reports.invoice.write.columns import columns_of, number_of, values_of
from meter.reports.write.json import document_text
from meter.terminal import shown_document


async def write_json(split: Split, groups: Sequence[str], out: TextIO) -> None:
    """Write the lines as they are made, then the rest."""
    names, totals = columns_of(groups), split.totals
    quantity = names.index("quantity")
    before, after = '{\n  "lines": [\n', '{\n  "lines": ['
    async for line in split.lines():
        values = [
            plain(value) if isinstance(value, Decimal) else value
            for value in values_of(line, groups, totals.currency)
        ]
        document = dict(zip(names, values, strict=True)) | {
            names[quantity]: number_of(line.quantity)
        }
        out.write(shown_document(f"{before}    {document_text(document, depth=4)}", out))
        before, after = ",\n", "\n  "
    out.write(f"{after}]")
    for name, part in ends_of(totals, split.bill.month.name).items():
        out.write(shown_document(f',\n  "{name}": {document_text(part, depth=2)}', out))
    out.write("\n}\n")


def ends_of(totals: Totals, month: str) -> dict[str, Any]:
    """What follows the lines: what they are in all, and what could not be matched."""
    meters = list(totals.sorted())
    return {
        "totals": {
            "month": month,
            "cost": plain(totals.cost()),
            "currency": totals.currency,
            "rows": totals.rows,
            "costs": {str(kind): plain(totals.cost(kind)) for kind in LineKind},
            "meters": [_meter(each) for each in meters if each.meter.is_mapped],
        },
        "unmapped": [
            _unmapped(each, totals.currency) for each in meters if not each.meter.is_mapped
        ],
        "unbilled": [*_beyond_the_meters(meters), *_without_meters(totals)],
    }


def _meter(found: MeterTotal) -> dict[str, object]:
    meaning = found.meter.meaning
    assert meaning is not None
    return {
        "resource_id": found.meter.account,
        "meter_id": found.meter.meter_id,
        "meter_name": found.meter.meter_name,
        **meaning._asdict(),
        "rows": found.rows,
        "billed": number_of(found.billed),
        "counted": number_of(found.counted),
        "not_counted": number_of(found.not_counted),
        "not_billed": number_of(found.not_billed),
        "cost": plain(found.cost),
        "cost_not_counted": plain(found.costs[LineKind.OTHER]),
    }


def _unmapped(found: MeterTotal, currency: str) -> dict[str, object]:
    meter = found.meter
    return {
        "resource_id": meter.account,
        "meter_id": meter.meter_id,
        "meter_name": meter.meter_name,
        "product": meter.described.group or meter.described.product,
        "unit": meter.described.unit,
        "reason": meter.reason,
        "rows": found.rows,
        "quantity": number_of(found.billed),
        "cost": plain(found.cost),
        "currency": currency,
    }


def _beyond_the_meters(meters: Sequence[MeterTotal]) -> list[dict[str, object]]:
    """What was counted beyond what meters billed."""
    return [
        {
            "resource_id": each.meter.account,
            "meter_id": each.meter.meter_id,
            "meter_name": each.meter.meter_name,
            **each.meter.meaning._asdict(),
            "quantity": number_of(each.not_billed),
        }
        for each in meters
        if each.not_billed and each.meter.meaning is not None
    ]


def _without_meters(totals: Totals) -> list[dict[str, object]]:
    """What was counted, and has no meter on the invoice."""
    return [
        {
            "resource_id": key.account or None,
            "meter_id": None,
            "meter_name": None,
            **{name: value for name, value in key._asdict().items() if name != "account"},
            "quantity": number_of(quantity),
        }
        for key, quantity in sorted(totals.unbilled.items())
    ]
