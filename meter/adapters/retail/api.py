"""Reads Azure's Retail Prices API: public, without sign-in, in pages of up to 1,000 prices.

The request, `NextPageLink`, the fields of an item and the filters: learn.microsoft.com/rest/api/
cost-management/retail-prices/azure-retail-prices. Filters compare case. Models are under the service
`Foundry Models`; where that has none, they are asked for under `Cognitive Services`, as it was before.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from meter.adapters.json_get import MAX_QUOTED_CHARS, Bounds, JsonGet, Refused
from meter.errors import PricesUnavailable
from meter.gateway.address import is_loopback
from meter.reports.pricing.retail.price import RetailPrice, Wanted, retail_prices
from meter.reports.pricing.retail.saved import items_of
from meter.terminal import printable

SERVICES = ("Foundry Models", "Cognitive Services")
PATH = "/api/retail/prices"
MOST_PAGES = 1_000
_PORTS = {"https": 443, "http": 80}


class Fetched(NamedTuple):
    """How far a download has come."""

    pages: int
    prices: int


def open_retail_prices(url: str) -> "closing[RetailPrices]":
    """The API at an address, closed at the end."""
    return closing(RetailPrices(url))


class RetailPrices:
    """The API at one address."""

    def __init__(
        self,
        url: str,
        *,
        bounds: Bounds | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._http = JsonGet(
            "Azure's Retail Prices API",
            PricesUnavailable,
            bounds=bounds or Bounds(),
            sleep=sleep,
            is_local=is_loopback(urlsplit(url).hostname or ""),
            parse_float=Decimal,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def prices(
        self, wanted: Wanted, show: Callable[[Fetched], None] = lambda _: None
    ) -> list[RetailPrice]:
        """All of these prices. Raises PricesUnavailable, also where there is none."""
        for service in SERVICES:
            if found := self._pages(_query(wanted, service), wanted.currency, show):
                return found
        raise PricesUnavailable(
            "Azure's Retail Prices API: has no price for this region, product and currency; names "
            "are compared exactly, for example swedencentral, 'Azure OpenAI GPT5' and EUR"
        )

    def _pages(
        self, query: str, currency: str, show: Callable[[Fetched], None]
    ) -> list[RetailPrice]:
        found: list[RetailPrice] = []
        link: str | None = f"{self._url}{PATH}?{query}"
        seen: set[str] = set()
        while link is not None:
            if len(seen) == MOST_PAGES or link in seen:
                raise PricesUnavailable(
                    f"Azure's Retail Prices API: its pages do not end, after {len(seen)}"
                )
            seen.add(link)
            what = f"page {len(seen)}"
            document = self._http.get(link, what)
            if isinstance(document, Refused):
                raise PricesUnavailable(document.message)
            if "Items" not in document:
                raise _unusable(what, "it has no Items")
            try:
                for item in items_of(document):
                    found += retail_prices(item, currency)
                link = self._next_link(document.get("NextPageLink"))
            except (ValueError, RecursionError) as exc:
                raise _unusable(what, str(exc)) from exc
            show(Fetched(len(seen), len(found)))
        return found

    def _next_link(self, link: object) -> str | None:
        """The link to the next page; a page of another address is not fetched. Raises ValueError."""
        if not link:
            return None
        if not isinstance(link, str) or not is_of_address(link, self._url):
            raise ValueError(f"NextPageLink leads elsewhere: {str(link)[:MAX_QUOTED_CHARS]!r}")
        return link


def is_of_address(link: str, url: str) -> bool:
    """Whether both have one scheme, host and port; Azure's links name the port, `:443`."""
    return _address(link) == _address(url)


def _address(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return (
        parts.scheme,
        "localhost" if is_loopback(host) else host,
        parts.port or _PORTS.get(parts.scheme),
    )


def _query(wanted: Wanted, service: str) -> str:
    parts = [
        f"serviceName eq {_quoted(service)}",
        *_any_of("armRegionName", wanted.regions),
        *_any_of("productName", wanted.products),
    ]
    query = {"currencyCode": f"'{wanted.currency}'", "$filter": " and ".join(parts)}
    return urlencode(query, quote_via=quote)


def _unusable(what: str, why: str) -> PricesUnavailable:
    said = printable(why, most=MAX_QUOTED_CHARS)
    return PricesUnavailable(f"Azure's Retail Prices API, {what}: cannot be used: {said}")


def _any_of(field: str, values: Iterable[str]) -> list[str]:
    terms = [f"{field} eq {_quoted(value)}" for value in values]
    return [f"({' or '.join(terms)})"] if terms else []


def _quoted(value: str) -> str:
    """A string literal of OData."""
    return "'" + value.replace("'", "''") + "'"
