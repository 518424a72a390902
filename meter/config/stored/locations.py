"""Which settings stand in files and blobs."""

from collections.abc import Mapping

from meter.config.backends.document import SETTING as BACKENDS
from meter.config.prices import FILES as PRICES
from meter.config.reader import Reader
from meter.config.stored.address import blob_place, is_address
from meter.config.stored.limits import SETTING as LIMITS


def stored_settings(environment: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """The paths and addresses of each setting that is stored apart from the settings."""
    reader = Reader(environment)
    found: dict[str, tuple[str, ...]] = {PRICES: reader.ordered_names(PRICES)}
    for name in (BACKENDS, LIMITS):
        text = reader.text(name)
        found[name] = () if text.startswith(("{", "[")) else (text,)
    return {name: texts for name, texts in found.items() if any(texts)}


def blob_addresses(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses among them that can be read."""
    locations = (text for texts in stored_settings(environment).values() for text in texts)
    return tuple(text for text in locations if is_address(text) and blob_place(text) is not None)
