"""Exports in CSV: real spellings, and everything that can be wrong with a file."""

import gzip
import os
from decimal import Decimal
from pathlib import Path

import pytest

from meter.errors import InvalidInput
from meter.reports.invoice.amounts import total
from meter.reports.invoice.billed import Bill
from tests.support.invoice import bill_of, csv_of, details
from tests.support.reconcile import EAST, WEST


def cost(bill: Bill) -> Decimal:
    return total(meter.cost for meters in bill.by_day().values() for meter in meters)


def problems(*paths: Path) -> list[str]:
    with pytest.raises(InvalidInput) as failure:
        bill_of(*paths)
    return list(failure.value.problems)


def test_a_byte_order_mark_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    """Azure's files begin with one."""
    file = tmp_path / "export.csv"
    file.write_bytes(b"\xef\xbb\xbf\r\n" + csv_of(details()).encode() + b"\r\n")

    assert cost(bill_of(file)) == Decimal("0.0025")


def test_a_packed_file_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    """Whatever its name."""
    file = tmp_path / "part_0_0001.csv"
    file.write_bytes(gzip.compress(csv_of(details()).encode()))

    assert cost(bill_of(file)) == Decimal("0.0025")


def test_files_are_added_up(tmp_path: Path) -> None:
    """Exports are cut into parts, which need not have the same columns."""
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    files[0].write_text(csv_of(details()))
    files[1].write_text(csv_of(details(), columns=[*reversed(details())]))

    assert cost(bill_of(*files)) == Decimal("0.0050")


def test_rows_of_more_than_a_line_are_whole(tmp_path: Path) -> None:
    """Tags may hold line ends, and ids of other resources."""
    file = tmp_path / "export.csv"
    tags = f'{{"a": "1\n{EAST},x\n"}}'
    file.write_text(csv_of(details(Tags=tags), details(Tags=tags, ResourceId=WEST), details()))
    bill = bill_of(file)

    assert bill.rows == 2


@pytest.mark.parametrize("every", [1, 50])
def test_a_long_file_is_read_in_blocks(tmp_path: Path, every: int) -> None:
    """Rows are found on both sides of each block's edge, and multi-line ones across it."""
    file = tmp_path / "export.csv"
    rows = [
        details(
            ResourceId=EAST if number % every == 0 else WEST,
            InvoiceSectionName="x" * 900,
            Tags="a\nb" if number % 7 == 0 else "",
        )
        for number in range(3_000)
    ]
    file.write_text(csv_of(*rows))

    assert file.stat().st_size > 2 << 20
    assert bill_of(file).rows == 3_000 // every


def test_a_pipe_is_read(tmp_path: Path) -> None:
    """`--export <(unpack export)` is one."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as end:
        end.write(csv_of(details()))
    try:
        assert cost(bill_of(Path(f"/dev/fd/{reading}"))) == Decimal("0.0025")
    finally:
        os.close(reading)


TEXT = csv_of(details(), details())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", " is empty"),
        (b"\r\n\r\n", " is empty"),
        (gzip.compress(b""), " is empty"),
        (
            gzip.compress(TEXT.encode())[:-20],
            " is cut off or damaged: its gzip data does not end well",
        ),
        (b"\x1f\x8b" + b"x" * 100, " is cut off or damaged"),
        (b"PK\x03\x04...", " is a zip archive: unpack it first"),
        (TEXT.encode("utf-16"), " is text in UTF-16"),
        (TEXT.replace("research", "r\xe9").encode("latin-1"), " is not text in UTF-8"),
        (TEXT.replace("research", "re\0search").encode(), ", line 2: has a zero byte"),
        (TEXT.replace(",", ";").encode(), ": its columns are separated by semicolons"),
        (b"a,b\n1,2\n", ": its first line is not the header of a cost export"),
        (
            TEXT.replace("research,", "", 1).encode(),
            ", line 2: the row has 14 columns, the header has 15",
        ),
        (TEXT.encode()[:-60], " is cut off: its last row has 13 columns, the header has 15"),
        (
            csv_of(details(ResourceId=WEST)).encode()[:-30],
            " is cut off: its last row has 14 columns",
        ),
        (TEXT.replace("research", '"research', 1).encode(), ", line 2: is not CSV"),
        (b"PAR1" + b"x" * 100, " is "),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    """It names the file."""
    file = tmp_path / "export.csv"
    file.write_bytes(data)

    (told,) = problems(file)
    assert told.startswith(f"{file}{problem}")
    assert "\n" not in told


def test_a_row_without_an_end_is_not_held_in_memory(tmp_path: Path) -> None:
    """After eight million characters it is told."""
    file = tmp_path / "export.csv"
    file.write_text(TEXT + '"' + "x,\n" * 4_000_000)

    assert problems(file) == [f"{file}: a row never ends: a quote or a line's end is missing"]


def test_every_file_has_its_line(tmp_path: Path) -> None:
    """A folder, one that is empty, one that is given twice."""
    empty, whole = tmp_path / "empty.csv", tmp_path / "whole.csv"
    empty.touch()
    whole.write_text(TEXT)

    assert problems(whole, tmp_path, empty, tmp_path / "." / "whole.csv") == [
        f"{whole} is given twice, and its rows would count twice",
        f"{tmp_path} is a folder: name the files in it",
        f"{empty} is empty",
    ]


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Its message names the file."""
    with pytest.raises(FileNotFoundError, match=r"missing\.csv"):
        bill_of(tmp_path / "missing.csv")
