"""Saved retail prices: JSON in the shapes that people save, CSV, and files that are neither."""

import json

import pytest

from meter.errors import InvalidInput
from meter.reports.pricing.retail.saved import saved_prices
from tests.support.retail import api_item

HEADER = "productName,meterName,armRegionName,unitOfMeasure,retailPrice,effectiveStartDate"
ROW = "Azure OpenAI,o3-pro Inp glbl Tokens,eastus,1K,0.02,2025-06-01"


def refusal(data: bytes) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        saved_prices("saved", data, "USD")
    return list(refused.value.problems)


@pytest.mark.parametrize(
    "document",
    [
        {"Items": [api_item(), api_item()], "NextPageLink": None},
        [{"Items": [api_item()]}, {"Items": [api_item()]}],
        [api_item(), api_item()],
        {"fetched_at": "2026-08-11", "items": [api_item(), api_item()]},
    ],
)
def test_json_is_a_page_pages_or_items(document: object) -> None:
    """However it was saved, all items are read."""
    data = ("\ufeff" if isinstance(document, list) else "") + json.dumps(document)

    assert len(saved_prices("saved", data.encode("utf-8"), "USD")) == 2


def test_json_may_be_pages_one_after_the_other() -> None:
    """As a loop over `NextPageLink` that appends to a file leaves them."""
    page = json.dumps({"Items": [api_item()]}).encode()

    assert len(saved_prices("saved", page + b"\n" + page, "USD")) == 2


def test_csv_has_the_fields_of_the_api_as_columns() -> None:
    """In any case and order, with a byte order mark, blank lines and other line ends."""
    data = f"\ufeff{HEADER.upper()}\r\n\r\n{ROW}\r\n".encode()

    (found,) = saved_prices("saved", data, "EUR")

    assert (found.meter_name, found.region, found.currency) == (
        "o3-pro Inp glbl Tokens",
        "eastus",
        "EUR",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is neither JSON nor CSV with the columns"),
        ("a,b\n", "is neither JSON nor CSV with the columns"),
        (HEADER.replace(",", ";"), "separates columns by ';': commas are expected"),
        (HEADER.replace(",", "\t"), "separates columns by '\\t': commas are expected"),
        (HEADER, "has no prices"),
        ("[]", "has no prices"),
        ("[1]", "a page or an item must be a JSON object"),
        ('{"Items": 7}', "Items must be a list"),
        ('{"Items": [', "Expecting value"),
        (f"{HEADER},meter_name\n{ROW},x", "column metername is there twice"),
        (f"{HEADER}\n{ROW},more", "line 2 has 7 columns, the header 6"),
        (f'{HEADER}\n"{ROW}', "unexpected end of data"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(text: str, said: str) -> None:
    """In one line that begins with the file's name."""
    (problem,) = refusal(text.encode())

    assert problem.startswith("saved: ")
    assert said in problem


def test_every_broken_row_is_named_up_to_twenty() -> None:
    """A person repairs them at once, not one by one."""
    broken = "Azure OpenAI,,eastus,1K,much,2025-06-01"

    assert refusal(f"{HEADER}\n{ROW}\n{broken}\n{ROW}\n{broken}".encode()) == [
        "saved, line 3: has no metername",
        "saved, line 5: has no metername",
    ]
    assert len(refusal("\n".join([HEADER, *[broken] * 50]).encode())) == 20


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    """A file of another encoding may have other digits."""
    assert refusal(HEADER.encode("utf-16")) == ["saved: is not UTF-8 (byte 1)"]
