"""Reads which price book the app itself uses: METER_PRICES and METER_PRICES_CURRENCY.

No call depends on money, so a problem here is no problem of the settings: it is kept beside them.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from meter.config.reader import Reader
from meter.patterns import lazy_pattern

FILES, CURRENCY = "METER_PRICES", "METER_PRICES_CURRENCY"
_CURRENCY = lazy_pattern(r"[A-Z]{3}", re.ASCII)


class PriceSettings(Struct, frozen=True, kw_only=True):
    """The price book that the app itself uses: its files in their order, and its currency.

    Without files it says nothing of money. `problems` are of these settings: calls do not need them.
    """

    files: tuple[str, ...] = ()
    currency: str | None = None
    problems: tuple[str, ...] = ()


def load_price_settings(environment: Mapping[str, str]) -> PriceSettings:
    """The price book's settings; their problems are in the value."""
    reader = Reader(environment)
    files, currency = reader.ordered_names(FILES), reader.text(CURRENCY) or None
    if currency is not None and not _CURRENCY.fullmatch(currency):
        reader.problem(CURRENCY, f"must be three capitals, such as USD, got {currency!r:.60}")
    if currency is not None and not files:
        reader.problem(CURRENCY, f"has no effect without {FILES}, the files of a price book")
    return PriceSettings(files=files, currency=currency, problems=tuple(map(str, reader.problems)))


def read_price_settings(reader: Reader) -> PriceSettings:
    """The same, among all settings: the names are known, and nothing of them is a problem there."""
    reader.asked |= {FILES, CURRENCY}
    return load_price_settings(reader.environment)
