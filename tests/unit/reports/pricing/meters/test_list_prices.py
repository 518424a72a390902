"""What real meters are read as, judged by their prices: a wrong reading breaks a ratio.

Azure prices batch at half of standard, a data zone at 1.1 or 1.2 times global, a cache write at 1.25 times
input, and a long prompt at twice the input and 1.5 times the output of a short one. Prices for 1,000 tokens
are rounded to six decimals, which moves the cheapest by up to 4%.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import pytest

from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Meter
from meter.reports.pricing.meters.parse import parse_meter
from tests.support.retail import retail_rows

DAY = "2026-08-11"


class Key(NamedTuple):
    model: str
    kind: Kind
    deployment_type: str
    tier: str
    context: str
    region: str


@cache
def rates() -> Mapping[Key, Fraction]:
    """The price of one, by what it is for; of several dates the last that has come."""
    found: dict[Key, tuple[str, Fraction]] = {}
    for row in retail_rows():
        meter = parse_meter(row.product, row.name, row.unit)
        if isinstance(meter, Meter):
            for region in row.regions:
                key = Key(
                    meter.model,
                    meter.kind,
                    meter.deployment_type,
                    meter.tier,
                    meter.context,
                    region,
                )
                price = (row.since, Fraction(row.price) / meter.unit)
                found[key] = max(found.get(key, price), price)
    return {key: rate for key, (_, rate) in found.items()}


def ratios(of: Callable[[Key], Key | None]) -> Iterator[tuple[Key, float]]:
    """The price of each key by that of another, where there are both."""
    for key, rate in rates().items():
        other = of(key)
        if other is not None and other in rates():
            yield key, float(rate / rates()[other])


def outside(of: Callable[[Key], Key | None], *ranges: tuple[float, float]) -> tuple[int, list[Key]]:
    """How many pairs there are, and those whose ratio is in none of the ranges."""
    pairs = list(ratios(of))
    strange = [key for key, ratio in pairs if not any(low <= ratio <= high for low, high in ranges)]
    return len(pairs), strange


def test_no_two_meters_are_read_as_the_price_of_the_same() -> None:
    """Each key has one meter's name, at most with prices of several dates."""
    names: dict[Key, set[str]] = {}
    for row in retail_rows():
        found = parse_meter(row.product, row.name, row.unit)
        if isinstance(found, Meter):
            for region in row.regions:
                key = Key(
                    found.model,
                    found.kind,
                    found.deployment_type,
                    found.tier,
                    found.context,
                    region,
                )
                names.setdefault(key, set()).add(row.name)

    assert [key for key, each in names.items() if len(each) > 1] == []


def test_batch_is_half_of_standard() -> None:
    """The one cached price of GPT-5.4 is rounded up to two decimals."""
    pairs, strange = outside(
        lambda key: key._replace(tier="standard") if key.tier == "batch" else None, (0.499, 0.521)
    )

    assert (pairs, strange) == (2_845, [])


def test_priority_is_above_standard() -> None:
    """1.75 times (GPT-4.1) to 2.5 times (GPT-5.5)."""
    pairs, strange = outside(
        lambda key: key._replace(tier="standard") if key.tier == "priority" else None,
        (1.749, 1.81),
        (2.0, 2.0),
        (2.5, 2.5),
    )

    assert (pairs > 1_200, strange) == (True, [])


def test_a_data_zone_costs_a_tenth_or_a_fifth_more_than_global() -> None:
    """Which of the two depends on the region."""
    pairs, strange = outside(
        lambda key: (
            key._replace(deployment_type="global") if key.deployment_type == "data-zone" else None
        ),
        (1.09, 1.13),
        (1.19, 1.21),
    )

    assert (pairs, strange) == (5_562, [])


def test_a_region_costs_up_to_a_third_more_than_global() -> None:
    """Provisioned capacity costs twice as much and more."""
    pairs, strange = outside(
        lambda key: (
            key._replace(deployment_type="global") if key.deployment_type == "regional" else None
        ),
        (1.0, 1.0),
        (1.09, 1.36),
        (2.0, 2.5),
    )

    assert (pairs > 900, strange) == (True, [])


def test_a_long_prompt_doubles_the_input_and_adds_half_to_the_output() -> None:
    """Short prompts have meters with their mark, or with none."""

    def short(key: Key) -> Key | None:
        marked = key._replace(context="short")
        if key.context != "long":
            return None
        return marked if marked in rates() else key._replace(context="*")

    pairs, strange = outside(short, (2.0, 2.0), (1.5, 1.5), (1.92, 1.93))
    halves = {key.kind for key, ratio in ratios(short) if ratio == 1.5}

    assert (pairs > 1_000, strange, halves) == (True, [], {Kind.OUTPUT})


def test_cached_input_costs_at_most_half_of_input_and_writing_it_a_quarter_more() -> None:
    """Rounding and one region's price of a preview model make it up to 0.56."""
    inputs = {
        Kind.CACHED_INPUT: Kind.INPUT,
        Kind.AUDIO_CACHED_INPUT: Kind.AUDIO_INPUT,
        Kind.IMAGE_CACHED_INPUT: Kind.IMAGE_INPUT,
    }
    cached = outside(
        lambda key: key._replace(kind=inputs[key.kind]) if key.kind in inputs else None,
        (0.0, 0.56),
    )
    written = outside(
        lambda key: key._replace(kind=Kind.INPUT) if key.kind is Kind.CACHE_WRITE else None,
        (1.25, 1.25),
    )

    assert (cached[0] > 4_000, cached[1]) == (True, [])
    assert written == (333, [])


def test_output_costs_twice_the_input_and_more() -> None:
    """Text, audio and images alike."""
    inputs = {
        Kind.OUTPUT: Kind.INPUT,
        Kind.AUDIO_OUTPUT: Kind.AUDIO_INPUT,
        Kind.IMAGE_OUTPUT: Kind.IMAGE_INPUT,
    }
    pairs, strange = outside(
        lambda key: key._replace(kind=inputs[key.kind]) if key.kind in inputs else None,
        (2.0, 8.0),
    )

    assert (pairs > 5_000, strange) == (True, [])


@pytest.mark.parametrize(
    ("model", "kind", "tier", "context", "per", "expected"),
    [
        ("gpt-4o-2024-05-13", "input", "standard", "*", 1_000_000, "5"),
        ("gpt-4o-2024-08-06", "input", "standard", "*", 1_000_000, "2.5"),
        ("gpt-4o-2024-08-06", "cached_input", "standard", "*", 1_000_000, "1.25"),
        ("gpt-4o-2024-08-06", "output", "standard", "*", 1_000_000, "10"),
        ("gpt-4o-2024-08-06", "input", "batch", "*", 1_000_000, "1.25"),
        ("gpt-4o-mini-2024-07-18", "output", "standard", "*", 1_000_000, "0.6"),
        ("gpt-4.1", "cached_input", "standard", "*", 1_000_000, "0.5"),
        ("gpt-4.1", "input", "priority", "*", 1_000_000, "3.5"),
        ("gpt-4.1-mini", "input", "standard", "*", 1_000_000, "0.4"),
        ("gpt-4.1-nano", "output", "standard", "*", 1_000_000, "0.4"),
        ("gpt-5", "input", "standard", "*", 1_000_000, "1.25"),
        ("gpt-5", "cached_input", "standard", "*", 1_000_000, "0.125"),
        ("gpt-5", "output", "priority", "*", 1_000_000, "20"),
        ("gpt-5-mini", "output", "standard", "*", 1_000_000, "2"),
        ("gpt-5-nano", "input", "standard", "*", 1_000_000, "0.05"),
        ("gpt-5-pro", "output", "standard", "*", 1_000_000, "120"),
        ("gpt-5.4", "input", "standard", "long", 1_000_000, "5"),
        ("gpt-5.6-sol", "cache_write", "standard", "short", 1_000_000, "6.25"),
        ("gpt-5.6-sol", "output", "standard", "long", 1_000_000, "45"),
        ("gpt-5.6-sol", "output", "priority", "short", 1_000_000, "60"),
        ("o1-2024-12-17", "output", "standard", "*", 1_000_000, "60"),
        ("o3-2025-04-16", "input", "standard", "*", 1_000_000, "2"),
        ("o3-mini-2025-01-31", "output", "standard", "*", 1_000_000, "4.4"),
        ("o4-mini-2025-04-16", "cached_input", "standard", "*", 1_000_000, "0.275"),
        ("text-embedding-3-small", "input", "standard", "*", 1_000_000, "0.02"),
        ("text-embedding-3-large", "input", "standard", "*", 1_000_000, "0.13"),
        ("text-embedding-ada-002", "input", "standard", "*", 1_000_000, "0.1"),
        ("gpt-4o-audio-preview-2024-12-17", "audio_input", "standard", "*", 1_000_000, "40"),
        ("gpt-4o-audio-preview-2024-12-17", "input", "standard", "*", 1_000_000, "2.5"),
        ("gpt-realtime-2025-08-28", "audio_output", "standard", "*", 1_000_000, "64"),
        ("gpt-4o-transcribe", "audio_input", "standard", "*", 1_000_000, "6"),
        ("gpt-4o-mini-tts", "audio_output", "standard", "*", 1_000_000, "12"),
        ("gpt-image-1", "image_output", "standard", "*", 1_000_000, "40"),
        ("gpt-image-1", "input", "standard", "*", 1_000_000, "5"),
        ("whisper", "second", "standard", "*", 3_600, "0.36"),
        ("tts", "character", "standard", "*", 1_000_000, "15"),
        ("tts-hd", "character", "standard", "*", 1_000_000, "30"),
        ("*", "file_search", "standard", "*", 1_000, "2.5"),
        ("*", "code_interpreter", "standard", "*", 1, "0.03"),
        ("*", "ptu_hour", "provisioned", "*", 1, "1"),
    ],
)
def test_global_prices_are_those_that_are_published(
    model: str, kind: str, tier: str, context: str, per: int, expected: str
) -> None:
    """In USD, as on azure.microsoft.com/pricing/details/cognitive-services/openai-service."""
    found = {
        rate * per
        for key, rate in rates().items()
        if key[:5] == (model, kind, "global", tier, context)
    }

    assert found == {Fraction(Decimal(expected))}
