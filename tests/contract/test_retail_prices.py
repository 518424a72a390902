"""The Retail Prices API and its adapter: pages, filters, faults and garbage."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from local.openai.faults import Fault
from local.prices.items import items_of_table
from local.prices.server import StandInPrices
from meter.adapters.json_get import Bounds
from meter.adapters.retail.api import Fetched, RetailPrices, is_of_address
from meter.errors import PricesUnavailable
from meter.reports.pricing.retail.price import RetailPrice, Wanted
from tests.support.retail import FILE

BOUNDS = Bounds(connect_seconds=10, silence_seconds=20, total_seconds=30)
REGIONS = ("swedencentral", "westeurope")
ITEMS = tuple(
    item
    for item in items_of_table(gzip.decompress(FILE.read_bytes()).decode().splitlines())
    if item["armRegionName"] in REGIONS
)
SWEDEN = Wanted(currency="USD", regions=("swedencentral",))


class Meeting:
    """An adapter and the stand-in it talks to. `slept` are the waits it asked for."""

    def __init__(self, stand_in: StandInPrices, port: int, bounds: Bounds = BOUNDS) -> None:
        self.stand_in = stand_in
        self.slept: list[float] = []
        self.shown: list[Fetched] = []
        self.api = RetailPrices(f"http://127.0.0.1:{port}", bounds=bounds, sleep=self.slept.append)

    def fail(self, *faults: Fault) -> None:
        """Make the next requests fail in this way."""
        for fault in faults:
            self.stand_in.faults.add(fault)

    async def ask(self, wanted: Wanted = SWEDEN) -> list[RetailPrice]:
        """Read with the adapter, which blocks, in a thread of its own."""
        return await asyncio.to_thread(self.api.prices, wanted, self.shown.append)

    async def refusal(self, wanted: Wanted = SWEDEN) -> str:
        """The message of its final error."""
        with pytest.raises(PricesUnavailable) as refused:
            await self.ask(wanted)
        return str(refused.value)

    def queries(self) -> list[dict[str, Any]]:
        """The parameters of the requests."""
        return [each["query"] for each in self.stand_in.requests if isinstance(each["query"], dict)]


@pytest.fixture
async def meeting() -> AsyncIterator[Meeting]:
    stand_in = StandInPrices(ITEMS)
    met = Meeting(stand_in, await stand_in.start())
    yield met
    met.api.close()
    await stand_in.stop()


async def test_all_pages_are_read(meeting: Meeting) -> None:
    """1,000 prices per page, the last one shorter; the progress tells each page."""
    expected = Counter(
        str(item["meterName"]) for item in ITEMS if item["armRegionName"] == "swedencentral"
    )

    found = await meeting.ask()

    assert Counter(price.meter_name for price in found) == expected
    assert meeting.shown == [Fetched(1, 1000), Fetched(2, len(found))]
    assert 1000 < len(found) < 2000


async def test_the_first_page_is_asked_for_by_service_region_and_product(meeting: Meeting) -> None:
    """Values are text of OData, whose quotes are doubled."""
    wanted = Wanted(
        currency="EUR",
        regions=("swedencentral", "westeurope"),
        products=("Azure OpenAI GPT5", "It's new"),
    )

    found = await meeting.ask(wanted)

    assert meeting.queries()[0] == {
        "currencyCode": "'EUR'",
        "$filter": "serviceName eq 'Foundry Models' and "
        "(armRegionName eq 'swedencentral' or armRegionName eq 'westeurope') and "
        "(productName eq 'Azure OpenAI GPT5' or productName eq 'It''s new')",
    }
    assert {price.currency for price in found} == {"EUR"}
    assert {price.region for price in found} == {"swedencentral", "westeurope"}


async def test_amounts_are_the_digits_of_the_answer(meeting: Meeting) -> None:
    """No binary number is on the way: 0.0000275 is not 0.00002749."""
    meeting.fail(
        Fault(
            body='{"Items": [{"productName": "Azure OpenAI", "meterName": "a", "unitOfMeasure": "1K", '
            '"retailPrice": 2.75E-05, "effectiveStartDate": "2025-08-01T00:00:00Z"}]}'
        )
    )

    (found,) = await meeting.ask()

    assert (found.price, found.currency, found.region) == (Decimal("0.0000275"), "USD", "")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_failure_that_may_pass_is_repeated(meeting: Meeting, status: int) -> None:
    """With growing waits, or with the wait that the API names."""
    meeting.fail(Fault(status=status), Fault(status=status, headers={"Retry-After": "7"}))

    assert len(await meeting.ask()) > 1000
    assert meeting.slept == [1.0, 7.0]


async def test_a_page_that_hangs_or_breaks_is_repeated() -> None:
    """Also when its connection is reset, or half of it arrives."""
    stand_in = StandInPrices(ITEMS[:3])
    met = Meeting(stand_in, await stand_in.start(), Bounds(silence_seconds=1.5, total_seconds=30))
    met.fail(Fault(hang=True), Fault(reset=True), Fault(cut_after_bytes=500))

    found = await met.ask(Wanted(currency="USD"))

    met.api.close()
    await stand_in.stop()
    assert len(found) == 3
    assert met.slept == [1.0, 2.0, 4.0]


async def test_a_page_that_is_too_large_is_refused() -> None:
    """A price list has no need of it."""
    stand_in = StandInPrices(ITEMS)
    met = Meeting(stand_in, await stand_in.start(), Bounds(document_bytes=100_000))

    refusal = await met.refusal()

    met.api.close()
    await stand_in.stop()
    assert refusal == "Azure's Retail Prices API's answer is too large"


async def test_repeats_end(meeting: Meeting) -> None:
    """After five attempts the answer is the API's own word."""
    meeting.fail(Fault(status=429, count=None))

    assert await meeting.refusal() == (
        "Azure's Retail Prices API, page 1: 429 TooManyRequests: Too many requests. Please retry after "
        "some time.; given up after 5 attempts"
    )


async def test_a_long_wait_is_not_waited_for(meeting: Meeting) -> None:
    """A command does not sleep for an hour."""
    meeting.fail(Fault(status=429, headers={"Retry-After": "3600"}))

    assert "it asks to wait 3600 s" in await meeting.refusal()


async def test_what_the_api_refuses_is_said_once(meeting: Meeting) -> None:
    """A currency that it does not know, for example."""
    refusal = await meeting.refusal(Wanted(currency="XXX"))

    assert refusal.startswith("Azure's Retail Prices API, page 1: 400 BadRequest: The currency")
    assert meeting.slept == []


async def test_models_are_also_found_under_their_earlier_service() -> None:
    """Where `Foundry Models` has none."""
    earlier = StandInPrices([{**ITEMS[0], "serviceName": "Cognitive Services"}])
    api = RetailPrices(f"http://127.0.0.1:{await earlier.start()}", bounds=BOUNDS)

    found = await asyncio.to_thread(api.prices, Wanted(currency="USD"))

    api.close()
    await earlier.stop()
    assert [price.meter_name for price in found] == [ITEMS[0]["meterName"]]


async def test_no_price_at_all_is_an_error(meeting: Meeting) -> None:
    """A misspelt region gives an empty list and no error."""
    assert "has no price for this region" in await meeting.refusal(
        Wanted(currency="USD", regions=("sweden central",))
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<html>", "the answer is no JSON object"),
        ("[]", "the answer is no JSON object"),
        ("{}", "it has no Items"),
        ('{"Items": {}}', "Items must be a list"),
        ('{"Items": [1]}', "a page or an item must be a JSON object"),
        ('{"Items": [{}]}', "has no productname"),
        (
            '{"Items": [{"productName": "a", "meterName": "b", "unitOfMeasure": "1", '
            '"effectiveStartDate": "2026-01-01", "retailPrice": NaN}]}',
            "retailprice must be a decimal number, got 'nan'",
        ),
        (
            '{"Items": [{"productName": "a", "meterName": "b", "unitOfMeasure": "1", '
            '"effectiveStartDate": "soon", "retailPrice": 1}]}',
            "effectivestartdate must begin with a day",
        ),
        ('{"Items": [], "NextPageLink": "https://example.com/"}', "NextPageLink leads elsewhere"),
        ('{"Items": [], "NextPageLink": 7}', "NextPageLink leads elsewhere"),
    ],
)
async def test_garbage_is_refused_as_a_whole(meeting: Meeting, body: str, said: str) -> None:
    """Half of a list of prices would look like the list."""
    meeting.fail(Fault(body=body))

    assert said in await meeting.refusal()


async def test_pages_that_lead_in_a_circle_end(meeting: Meeting) -> None:
    """A link that was followed before is not followed again."""
    link = f"{meeting.stand_in.address}/api/retail/prices?$skip=0"
    meeting.fail(Fault(body={"Items": [], "NextPageLink": link}, count=None))

    assert "its pages do not end, after 2" in await meeting.refusal()


def test_this_machine_has_several_names() -> None:
    """A stand-in may be called localhost, and call itself 127.0.0.1."""
    assert is_of_address("http://127.0.0.1:7076/a", "http://localhost:7076")
    assert not is_of_address("http://127.0.0.1:7077/a", "http://localhost:7076")


@pytest.mark.parametrize(
    ("link", "is_ours"),
    [
        ("https://prices.azure.com:443/api/retail/prices?$skip=1000", True),
        ("https://PRICES.azure.com/api/retail/prices", True),
        ("http://prices.azure.com/api/retail/prices", False),
        ("https://prices.azure.com:8443/api/retail/prices", False),
        ("https://prices.azure.com.example/", False),
        ("/api/retail/prices", False),
    ],
)
def test_a_link_is_followed_to_the_same_address_only(link: str, is_ours: bool) -> None:
    """Azure's links name the port that is the default."""
    assert is_of_address(link, "https://prices.azure.com") is is_ours
