"""What the tools of analysts read in a report's files is what its JSON says."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pytest

from meter.reports.rows import UsageRow
from meter.reports.write.report import Format
from tests.support.files import bytes_of, document_of, report_of, used
from tests.support.reports import query

WANTED = query("day", "2026-11", "2026-11", groups="subject,team")
ROWS = [
    used(
        'zoë "the =1"',
        "=1+1",
        window="2026-11-01",
        calls=3,
        prompt_tokens=2**49,
        cost=Fraction(2, 3),
    ),
    used("0123", "search\nads", window="2026-11-02", prompt_tokens=7, cost=Fraction("0.00000025")),
    used("bob", "", window="2026-11-02", calls=2, prompt_tokens=-4),
]
NAMES = ("day", "subject", "prompt_tokens", "net_prompt_tokens", "cost")


@pytest.fixture
async def expected() -> list[tuple[Any, ...]]:
    document = await document_of(report_of(ROWS, WANTED, "EUR"))
    return [
        (*(row[name] for name in NAMES[:-1]), row["cost"] and Decimal(row["cost"]))
        for row in document["rows"]
    ]


async def written(folder: Path, form: Format, rows: list[UsageRow] = ROWS) -> str:
    path = folder / f"usage.{form}"
    path.write_bytes(await bytes_of(report_of(rows, WANTED, "EUR"), form))
    return str(path)


async def test_duckdb_reads_parquet(tmp_path: Path, expected: list[tuple[Any, ...]]) -> None:
    """Every digit of money, moments as moments, and sums without a conversion."""
    path = await written(tmp_path, Format.PARQUET)
    with duckdb.connect() as database:
        found = database.execute(f"SELECT {', '.join(NAMES)} FROM '{path}'").fetchall()
        (whole,) = database.execute(f"SELECT sum(cost), min(window_start) FROM '{path}'").fetchall()

    assert found == expected
    assert whole[0] == Decimal("0.66666691666666666667")
    assert whole[1].isoformat()[:10] == "2026-11-01"


async def test_duckdb_reads_csv(tmp_path: Path, expected: list[tuple[Any, ...]]) -> None:
    """The byte order mark is no part of the first heading."""
    path = await written(tmp_path, Format.CSV)
    columns = "day, subject, prompt_tokens, net_prompt_tokens, CAST(cost AS DECIMAL(38, 20))"
    with duckdb.connect() as database:
        found = database.execute(
            f"SELECT {columns} FROM read_csv('{path}', all_varchar=true)"
        ).fetchall()

    assert [(*each[:2], int(each[2]), int(each[3]), each[4]) for each in found] == expected


async def test_pandas_reads_parquet(tmp_path: Path, expected: list[tuple[Any, ...]]) -> None:
    """Counts are integers, also beside what is not known."""
    frame = pandas.read_parquet(await written(tmp_path, Format.PARQUET), use_threads=False)

    assert str(frame["prompt_tokens"].dtype) == "int64"
    assert str(frame["first_call_at"].dtype).startswith("datetime64[us, UTC")
    assert list(frame[list(NAMES)].itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("form", [Format.CSV, Format.XLSX])
async def test_pandas_reads_what_people_open(
    form: Format, tmp_path: Path, expected: list[tuple[Any, ...]]
) -> None:
    """With the same headings, and counts to the last digit."""
    path = await written(tmp_path, form)
    read = pandas.read_csv if form is Format.CSV else pandas.read_excel
    frame = read(path, dtype={"subject": str})

    assert list(frame["subject"]) == [each[1] for each in expected]
    assert list(frame["net_prompt_tokens"]) == [each[3] for each in expected]
    assert frame["cost"].sum() == pytest.approx(float(Fraction(2, 3) + Fraction("0.00000025")))
    assert str(frame["day"].iloc[0])[:10] == "2026-11-01"
