"""Serves the Retail Prices API on loopback: `GET /api/retail/prices?currencyCode='EUR'&$filter=...`.

Pages have 1,000 items. `NextPageLink` leads to this server, and its `$skip` counts the items before.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlencode

from aiohttp import web

from local.azure_service import AzureService, Refused
from local.openai.call import JsonObject
from local.prices.filters import parse_filter
from local.prices.items import RATES, in_currency

PATH = "/api/retail/prices"
PAGE = 1_000
_REFUSALS = {429: ("TooManyRequests", "Too many requests. Please retry after some time.")}


class StandInPrices(AzureService):
    """The prices of some items; `page` is how many of them a page has."""

    def __init__(self, items: Iterable[JsonObject], *, page: int = PAGE) -> None:
        super().__init__(_REFUSALS)
        self._items: Sequence[JsonObject] = tuple(items)
        self._page = page

    async def answer(self, request: web.Request) -> JsonObject:
        """One page of the prices that pass the filter."""
        if request.path != PATH:
            raise Refused(404, "NotFound", "The resource could not be found.")
        currency = request.query.get("currencyCode", "'USD'").strip("'")
        if currency not in RATES:
            raise Refused(400, "BadRequest", f"The currency {currency!r} is not supported.")
        try:
            passes = parse_filter(request.query.get("$filter", ""))
            first = int(request.query.get("$skip", "0"))
        except ValueError as exc:
            raise Refused(400, "BadRequest", f"Invalid OData parameters supplied: {exc}") from exc
        found = [item for item in self._items if passes(item)]
        page = found[first : first + self._page]
        return {
            "BillingCurrency": currency,
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": [in_currency(item, currency) for item in page],
            "NextPageLink": self._next(request, first + len(page), len(found)),
            "Count": len(page),
        }

    def _next(self, request: web.Request, before: int, count: int) -> str | None:
        if before >= count:
            return None
        query = {**request.query, "$skip": str(before)}
        return f"{self.address}{PATH}?{urlencode(query, quote_via=quote)}"
