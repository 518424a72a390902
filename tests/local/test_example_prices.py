"""The example price book: it prices what the stand-in backends do, and says that it is an example."""

from datetime import date

import pytest

from local.demo import EXAMPLE_PRICES
from local.openai.server import DEFAULT_DEPLOYMENTS
from meter.reports.pricing.book import Use
from meter.reports.pricing.kinds import Kind
from meter.wiring.books import read_price_book

KINDS = {
    "whisper": [Kind.SECOND],
    "dall-e-3": [Kind.IMAGE],
    "tts-hd": [Kind.CHARACTER],
    "text-embedding-3-small": [Kind.INPUT],
}
TOKENS = [Kind.INPUT, Kind.CACHED_INPUT, Kind.OUTPUT, Kind.AUDIO_OUTPUT, Kind.IMAGE_INPUT]


@pytest.mark.parametrize("deployment", DEFAULT_DEPLOYMENTS)
@pytest.mark.parametrize("tier", ["standard", "priority"])
def test_every_stand_in_has_prices(deployment: str, tier: str) -> None:
    """Whatever is asked of a local stack, its report has a cost."""
    use = Use(DEFAULT_DEPLOYMENTS[deployment], deployment, "global", "swedencentral", tier, "short")
    prices = read_price_book([EXAMPLE_PRICES]).prices_of(date(2026, 11, 23), use)

    kinds = KINDS.get(deployment, TOKENS)
    assert [kind for kind in kinds if prices[kind] is None] == []


def test_every_line_says_that_it_is_an_example() -> None:
    """So that nobody charges by it."""
    _, *lines = EXAMPLE_PRICES.read_text(encoding="utf-8").splitlines()

    assert lines
    assert all(line.endswith('"EXAMPLE: made up, nobody\'s price"') for line in lines)
