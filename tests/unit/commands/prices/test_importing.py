"""`python -m meter prices import`: its arguments, exit codes, messages and files."""

import asyncio
import csv
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.openai.faults import Fault
from local.prices.items import items_of_table
from local.prices.server import StandInPrices
from meter.__main__ import main
from tests.support.prices import book_text, line
from tests.support.retail import FILE, api_item

ITEMS = tuple(items_of_table(gzip.decompress(FILE.read_bytes()).decode().splitlines()))


@contextmanager
def serving(stand_in: StandInPrices) -> Iterator[StandInPrices]:
    """The stand-in, in a thread with a loop of its own, since the command blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(stand_in.start(), loop).result(10)
        yield stand_in
    finally:
        asyncio.run_coroutine_threadsafe(stand_in.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInPrices]:
    with serving(StandInPrices(ITEMS)) as stand_in:
        monkeypatch.setenv("METER_RETAIL_PRICES_URL", stand_in.address)
        yield stand_in


def saved(tmp_path: Path, *items: dict[str, object]) -> str:
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(list(items or [api_item(currencyCode="USD")])))
    return str(path)


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        ([], "--out"),
        (["--out", "b.csv", "--region", "Sweden_Central"], "must be an Azure region's name"),
        (["--out", "b.csv", "--currency", "usd"], "must be three capitals, such as USD"),
        (["--out", "b.csv", "--product", " "], "must be a product's name"),
        (["--out", "b.csv", "extra"], "extra"),
    ],
)
def test_invalid_arguments_exit_with_2_and_say_what_is_accepted(
    words: list[str], accepted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Azure is not asked."""
    with pytest.raises(SystemExit) as ending:
        main(["prices", "import", *words])

    assert ending.value.code == 2
    assert accepted in capsys.readouterr().err


def test_a_book_is_filled_from_the_api(
    azure: StandInPrices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The counts are printed, by reason; a region may be given by its display name."""
    book = tmp_path / "book.csv"

    code = main(
        [
            *("prices", "import", "--out", str(book), "--currency", "EUR"),
            *("--region", "Sweden Central", "--product", "Azure OpenAI"),
        ]
    )

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{book}: 347 prices, 0 of them left as they were",
        "501 rows read: 347 parsed, 154 skipped",
        "      122  fine-tuning",
        "       20  retired model whose answers do not tell its prices apart",
        "        4  priced by image quality",
        "        3  no deployment type",
        "        3  provisioned throughput of the earlier kind",
        "        2  storage",
    ]
    rows = list(csv.DictReader(book.read_text().splitlines()))
    assert {row["currency"] for row in rows} == {"EUR"}
    assert {row["region"] for row in rows} == {"swedencentral"}


def test_a_second_import_changes_nothing(azure: StandInPrices, tmp_path: Path) -> None:
    """Also where a person has added rows, which stay first."""
    book = tmp_path / "book.csv"
    contracted = line(origin="contracted", price="1.90", source="our agreement")
    book.write_text(book_text(contracted))
    words = ["prices", "import", "--out", str(book), "--region", "eastus"]

    main(words)
    first = book.read_text()
    main(words)

    assert book.read_text() == first
    assert first.splitlines()[1] == contracted
    assert len(first.splitlines()) > 500


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=400, count=None),
        Fault(body="<html>", count=None),
        Fault(status=429, headers={"Retry-After": "3600"}, count=None),
    ],
)
def test_a_download_that_fails_changes_nothing(
    azure: StandInPrices, tmp_path: Path, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why, and there is no half-written file."""
    book = tmp_path / "book.csv"
    book.write_text(book_text(line()))
    azure.faults.add(fault)

    assert main(["prices", "import", "--out", str(book)]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("error: Azure's Retail Prices API, page 1: ")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert book.read_text() == book_text(line())
    assert [path.name for path in tmp_path.iterdir()] == ["book.csv"]


def test_a_book_with_mistakes_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person's rows in it would be lost."""
    book = tmp_path / "book.csv"
    book.write_text(book_text(line(price="2,50")))

    assert main(["prices", "import", "--out", str(book), "--from-file", saved(tmp_path)]) == 1
    assert f"{book}, line 2" in capsys.readouterr().err
    assert book.read_text() == book_text(line(price="2,50"))


def test_a_saved_list_is_read_instead_of_the_api(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole list of 2026-08-11, packed; each skipped row is listed with its reason."""
    monkeypatch.setenv("METER_RETAIL_PRICES_URL", "nowhere")
    book, skipped = tmp_path / "book.csv", tmp_path / "skipped.csv"

    code = main(
        [
            *("prices", "import", "--out", str(book), "--from-file", str(FILE)),
            *("--skipped", str(skipped)),
        ]
    )

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{book}: 17,408 prices, 0 of them left as they were",
        "27,014 rows read: 17,408 parsed, 9,606 skipped",
        "    6,615  not Azure OpenAI",
        "    2,308  fine-tuning",
        "      214  retired model whose answers do not tell its prices apart",
        "      159  video",
        "       75  unknown model",
        "       72  provisioned throughput of the earlier kind",
        "       71  no deployment type",
        "       52  storage",
        "       35  priced by image quality",
        "        4  one price for input and output",
        "        1  free of charge",
    ]
    rows = list(csv.DictReader(skipped.read_text().splitlines()))
    assert len(rows) == 9_606
    assert {
        "product": "Azure OpenAI Media",
        "meter_name": "gpt-latest 05052026 inp Gl 1M Tokens",
        "region": "eastus",
        "unit": "1M",
        "reason": "unknown model",
        "detail": "gpt latest",
    } in rows


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"[]" * 9_999)[:-9], "is cut off: the end of the gzip data is missing"),
        (b"\x1f\x8b\x08damaged", "is damaged"),
        (b"PK\x03\x04", "is neither JSON nor CSV"),
        (b"", "is neither JSON nor CSV"),
    ],
)
def test_a_saved_file_that_cannot_be_read_is_one_clear_line(
    tmp_path: Path, data: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and no book."""
    path, book = tmp_path / "saved", tmp_path / "book.csv"
    path.write_bytes(data)

    assert main(["prices", "import", "--out", str(book), "--from-file", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: {said}")
    assert not book.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from-file", "."], "error: .: cannot be read: Is a directory"),
        (["--from-file", "absent.json"], "error: absent.json: cannot be read: No such file"),
    ],
)
def test_a_file_that_is_none_is_named(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the system's reason."""
    assert main(["prices", "import", "--out", str(tmp_path / "book.csv"), *words]) == 1
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "{}"], "error: {}: is a folder"),
        (["--out", "{}/no/book.csv"], "error: {}/no/book.csv: is in a folder that does not exist"),
        (
            ["--out", "{}/b.csv", "--skipped", "{}/./b.csv"],
            "error: {}/b.csv: is given for the book and for the skipped rows",
        ),
    ],
)
def test_a_path_that_cannot_be_written_is_named_before_the_download(
    words: list[str],
    said: str,
    tmp_path: Path,
    azure: StandInPrices,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Azure is not asked."""
    assert main(["prices", "import", *(word.format(tmp_path) for word in words)]) == 1
    assert capsys.readouterr().err == said.format(tmp_path) + "\n"
    assert azure.requests == []


def test_a_list_without_a_price_of_azure_openai_leaves_the_book(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is to be gained from an empty book."""
    path = saved(tmp_path, api_item(productName="Azure Grok Models", currencyCode="USD"))
    book = tmp_path / "book.csv"

    assert main(["prices", "import", "--out", str(book), "--from-file", path]) == 1
    assert capsys.readouterr().err == (
        f"error: no price among 1 row (1 not Azure OpenAI): {book} stays as it is\n"
    )
    assert not book.exists()


def test_an_address_that_is_not_https_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prices decide what people are charged."""
    monkeypatch.setenv("METER_RETAIL_PRICES_URL", "http://prices.example")

    assert main(["prices", "import", "--out", str(tmp_path / "book.csv")]) == 1
    assert capsys.readouterr().err == (
        "error: METER_RETAIL_PRICES_URL must be an https url; plain http is accepted on loopback only\n"
    )
