"""The stand-in for the Retail Prices API answers as the real one is documented to answer."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local.prices.filters import parse_filter
from local.prices.items import items_of_table
from local.prices.server import PATH, StandInPrices
from tests.support.retail import FILE
from tests.support.running import REPOSITORY

TABLE = [
    "product_name,meter_name,regions,unit_of_measure,retail_price_usd,effective_start_date",
    "Azure OpenAI,o3-pro Inp glbl Tokens,eastus westus swedencentral,1K,0.02,2025-06-01",
    "Azure OpenAI GPT5,5 pp inp Gl 1M Tokens,eastus,1M,2.5,2026-03-01",
]


@pytest.fixture
async def address() -> AsyncIterator[str]:
    stand_in = StandInPrices(items_of_table(TABLE), page=2)
    await stand_in.start()
    yield stand_in.address
    await stand_in.stop()


async def get(url: str, **query: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, params=query or None) as response,
    ):
        return response.status, await response.json()


async def test_pages_lead_to_each_other(address: str) -> None:
    """The last has no link; each says how many items it has."""
    _, first = await get(address + PATH)
    _, last = await get(first["NextPageLink"])

    assert [first["Count"], last["Count"], last["NextPageLink"]] == [2, 2, None]
    assert [each["armRegionName"] for each in first["Items"] + last["Items"]] == [
        "eastus",
        "westus",
        "swedencentral",
        "eastus",
    ]


async def test_a_filter_and_a_currency_hold_for_all_pages(address: str) -> None:
    """Both are in the link."""
    query = {"$filter": "productName eq 'Azure OpenAI'", "currencyCode": "'SEK'"}
    _, first = await get(address + PATH, **query)
    _, last = await get(first["NextPageLink"])

    assert [each["retailPrice"] for each in first["Items"] + last["Items"]] == [0.19] * 3
    assert {each["currencyCode"] for each in first["Items"]} == {"SEK"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"$filter": "productName like 'a'"}, 400),
        ({"$filter": "colour eq 'a'"}, 400),
        ({"$skip": "some"}, 400),
        ({"currencyCode": "'XXX'"}, 400),
    ],
)
async def test_what_cannot_be_answered_is_refused(
    address: str, query: dict[str, str], status: int
) -> None:
    """With an error in Azure's shape."""
    answered, body = await get(address + PATH, **query)

    assert (answered, body["error"]["code"]) == (status, "BadRequest")
    assert (await get(address + "/api"))[0] == 404


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [True, True, True]),
        ("type eq 'a'", [True, False, False]),
        ("priceType eq 'a' or type eq 'b'", [True, True, False]),
        ("type eq 'a' AND skuName eq 's' or type eq 'it''s'", [True, False, True]),
        ("skuName eq 's' and (type eq 'b' or type eq 'it''s')", [False, True, False]),
        ("type eq 'A'", [False, False, False]),
    ],
)
def test_filters_join_comparisons(text: str, expected: list[bool]) -> None:
    """`and` binds more than `or`; values compare case."""
    items = [{"type": "a", "skuName": "s"}, {"type": "b", "skuName": "s"}, {"type": "it's"}]

    assert [parse_filter(text)(item) for item in items] == expected


@pytest.mark.parametrize(
    "text",
    [
        "type",
        "type eq",
        "type eq a",
        "type eq 'a' type",
        "(type eq 'a'",
        "type eq 'a",
        "type = 'a'",
    ],
)
def test_a_filter_that_is_none_is_refused(text: str) -> None:
    """A stand-in that guessed would hide a mistake."""
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the words
        parse_filter(text)


def test_it_runs_as_a_process() -> None:
    """`python -m local.prices --table FILE` says its port, and ends by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.prices", "--table", str(FILE)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0
