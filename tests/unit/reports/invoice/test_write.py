"""Split invoices in all formats."""

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest
from openpyxl import load_workbook

from meter.ledger.rows import SumRow
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.grouping import ALL, label_of
from meter.reports.invoice.split import Split
from meter.reports.invoice.write.invoice import warnings_of, write_invoice
from meter.reports.owners import Owners
from meter.reports.query import Grouping
from meter.reports.write.report import Format
from meter.usage import TokenUsage
from tests.fakes.rows import MemoryRowStore
from tests.support.invoice import backend, bill_of, csv_of, details
from tests.support.ledger import views_on
from tests.support.reports import row


class Terminal(io.StringIO):
    """An output that is a terminal."""

    def isatty(self) -> bool:
        return True


type Export = Callable[..., Bill]


@pytest.fixture
def exported(tmp_path: Path) -> Export:
    """What an export of these rows bills."""

    def read(*rows: dict[str, str]) -> Bill:
        file = tmp_path / "export.csv"
        file.write_text(csv_of(*rows))
        return bill_of(file)

    return read


def used(subject: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> SumRow:
    usage = TokenUsage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    return row("2026-10-01", subject, usage=usage, backend="backend")


async def written(
    bill: Bill,
    form: Format,
    *rows: SumRow,
    groups: tuple[Grouping, ...] = (Grouping.SUBJECT,),
    out: io.StringIO | None = None,
) -> str:
    out = out or io.StringIO()
    store = MemoryRowStore()
    await views_on(store).write(rows)
    split = Split(bill=bill, backends=[backend()], store=store, label=label_of(groups, Owners()))
    await write_invoice(split, groups, form, out)
    return out.getvalue() + "".join(f"{line}\n" for line in warnings_of(split.totals))


async def test_files_have_the_columns_in_this_order(exported: Export) -> None:
    """Other people's scripts read them by name; nobody's line has no subject."""
    text = await written(exported(details()), Format.JSON, used("alice", 250), groups=ALL)
    document = json.JSONDecoder().raw_decode(text)[0]

    assert list(document) == ["lines", "totals", "unmapped", "unbilled"]
    first, second = document["lines"]
    assert list(first) == [
        "date",
        "resource_id",
        "meter_id",
        "meter_name",
        "kind",
        "charge_type",
        "subject",
        "name",
        "team",
        "cost_centre",
        "client_app",
        "deployment",
        "model",
        "backend",
        "tier",
        "context",
        "quantity",
        "ratio",
        "cost",
        "currency",
    ]
    assert (first["subject"], first["name"], first["cost"]) == ("alice", "(no name)", "0.000625")
    assert (second["kind"], second["subject"]) == ("not through the meter", None)


async def test_csv_has_the_same_columns_and_no_formulas(exported: Export) -> None:
    """Texts are quoted, and numbers are not; nobody's cells are empty."""
    text = await written(exported(details()), Format.CSV, used("=1+1", 250))
    head, *rows = list(csv.reader(text.splitlines()))

    assert head[6:] == ["subject", "quantity", "ratio", "cost", "currency"]
    assert rows[0][6:] == ["'=1+1", "250", "0.25", "0.000625", "USD"]
    assert rows[1][4:] == ["not through the meter", "Usage", "", "750", "0.75", "0.001875", "USD"]
    assert ',250,0.25,0.000625,"USD"' in text


@pytest.mark.parametrize("form", list(Format)[:3])
async def test_nothing_steers_a_terminal(exported: Export, form: Format) -> None:
    """Names of meters and subjects come from others."""
    bill = exported(details(MeterName="odd\x1b[2J"), details())
    text = await written(bill, form, used("al\x1b[31mice", 250), out=Terminal())

    assert "\x1b" not in text


async def test_a_table_rounds_once_and_adds_up(exported: Export) -> None:
    """The line `rounding` is what its lines lack."""
    bill = exported(details(CostInBillingCurrency="0.10"))
    text = await written(bill, Format.TABLE, *(used(name, 300) for name in "abc"))

    assert text == (
        "2026-10, 1 billed rows, USD\n"
        "subject                  cost      %\n"
        "-----------------------  ----  -----\n"
        "a                        0.03  30.0%\n"
        "b                        0.03  30.0%\n"
        "c                        0.03  30.0%\n"
        "(not through the meter)  0.01  10.0%\n"
        "-----------------------  ----  -----\n"
        "total                    0.10\n"
        "\n"
        "quantities that differ       billed  counted  not counted  not billed  cost not counted\n"
        "---------------------------  ------  -------  -----------  ----------  ----------------\n"
        "gpt 4o 1120 Inp glbl Tokens   1,000      900          100           0              0.01\n"
        "warning: 0.01 USD is not through the meter: its quantities were billed and not counted\n"
    )


async def test_a_table_has_a_line_for_rounding(exported: Export) -> None:
    """Three thirds of a cent are 0.00 each; a yen has no hundredths."""
    dollars = exported(details(CostInBillingCurrency="0.01"))
    rows = [used(name, 400) for name in "abc"]
    text = await written(dollars, Format.TABLE, *rows)
    yen = exported(details(CostInBillingCurrency="7", BillingCurrency="JPY"))
    in_yen = await written(yen, Format.TABLE, *rows)

    assert "rounding  0.01\n" in text
    assert "total     0.01\n" in text
    assert "a            2  33.3%\n" in in_yen
    assert "rounding     1\n" in in_yen


async def test_a_table_tells_what_could_not_be_compared(exported: Export) -> None:
    """Meters with the reason; usage with all that it was looked up by."""
    bill = exported(details(MeterName="odd Tokens", CostInBillingCurrency="7"))
    text = await written(bill, Format.TABLE, used("alice", 0, 12_345))

    assert "unmapped: odd Tokens, 7.00 USD; unknown word: odd\n" in text
    assert "counted, not billed  kind    tier      context  deployment type  quantity\n" in text
    assert "gpt-4o-2024-11-20    output  standard  short    global             12,345\n" in text
    assert text.endswith(
        "warning: 7 USD is of meters that are not split; their reasons are in the table and the JSON\n"
    )


async def test_a_table_shows_the_meters_that_differ_most(exported: Export) -> None:
    """The JSON has all of them."""
    rows = [
        details(MeterId=f"m{number}", CostInBillingCurrency=f"{number}") for number in range(33)
    ]
    bill = exported(*rows)
    table = await written(bill, Format.TABLE)
    document = json.JSONDecoder().raw_decode(await written(bill, Format.JSON))[0]

    assert "... and 3 more meters: the JSON lists all\n" in table
    assert len(document["totals"]["meters"]) == 33


async def bytes_of(bill: Bill, form: Format, *rows: SumRow) -> bytes:
    store = MemoryRowStore()
    await views_on(store).write(rows)
    groups = (Grouping.SUBJECT, Grouping.MODEL)
    split = Split(bill=bill, backends=[backend()], store=store, label=label_of(groups, Owners()))
    out = io.BytesIO()
    await write_invoice(split, groups, form, out)
    return out.getvalue()


async def test_parquet_has_the_lines_of_the_json(exported: Export) -> None:
    """With types; costs that need more than 20 decimals still add up to the export."""
    bill = exported(details(CostInBillingCurrency="0.1234567890123"), details(MeterName="odd"))
    rows = [used(name, 333) for name in "abc"]
    data = await bytes_of(bill, Format.PARQUET, *rows)
    text = await written(bill, Format.JSON, *rows, groups=(Grouping.SUBJECT, Grouping.MODEL))
    document = json.JSONDecoder().raw_decode(text)[0]

    table = pyarrow.parquet.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    assert str(table.schema.field("date").type) == "date32[day]"
    for line, expected in zip(table.to_pylist(), document["lines"], strict=True):
        for name, value in line.items():
            if name in {"quantity", "ratio", "cost"}:
                assert abs(value - Decimal(expected[name])) <= Decimal("1e-20")
            else:
                assert (str(value) if name == "date" else value) == expected[name]
    assert sum(table["cost"].to_pylist()) == Decimal(document["totals"]["cost"])
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert (metadata["meter.month"], metadata["meter.currency"]) == ("2026-10", "USD")
    assert json.loads(metadata["meter.totals"]) == document["totals"]


async def test_a_workbook_has_the_lines_and_who_pays(exported: Export) -> None:
    """The dearest first; what nobody pays is named by its kind, and what does not match has sheets."""
    bill = exported(details(CostInBillingCurrency="2"), details(MeterName="odd"))
    data = await bytes_of(bill, Format.XLSX, used("=1+1", 600), used("bob", 250, 7))

    book = load_workbook(io.BytesIO(data))
    assert book.sheetnames == [
        "lines",
        "subject",
        "model",
        "meters",
        "unmapped",
        "unbilled",
        "about",
    ]
    head, *lines = book["lines"].values
    first = dict(zip(map(str, head), lines[0], strict=True))
    assert first["date"] == datetime(2026, 10, 1)  # noqa: DTZ001  # Excel has no zones
    assert (first["subject"], first["quantity"], first["ratio"]) == ("=1+1", 600, 0.6)
    assert first["cost"] == pytest.approx(1.2)
    assert list(book["subject"].values)[:3] == [
        ("subject", "cost"),
        ("=1+1", pytest.approx(1.2)),
        ("bob", pytest.approx(0.5)),
    ]
    kinds = {name for name, _ in list(book["subject"].values)[3:]}
    assert kinds == {"(not through the meter)", "(unmapped)"}
    assert book["subject"]["B2"].number_format == "#,##0.00"
    assert ("month", "2026-10") in {row[:2] for row in book["about"].values}
    unbilled = dict(zip(*book["unbilled"].values, strict=True))
    assert (unbilled["kind"], unbilled["quantity"]) == ("output", 7)
