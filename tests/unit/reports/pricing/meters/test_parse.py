"""Names of Azure's meters: what they say, and which of them say too little."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Meter, Reason, Skipped
from meter.reports.pricing.meters.parse import parse_meter
from meter.reports.pricing.meters.unit import parse_measure
from meter.reports.pricing.meters.words import DEPLOYMENT_TYPES, words_of
from tests.support.retail import retail_rows
from tests.support.running import REPOSITORY

OPENAI, GPT5, MEDIA = "Azure OpenAI", "Azure OpenAI GPT5", "Azure OpenAI Media"
UNCLEAR_EMBEDDING = "unclear kind: output of text-embedding-3-large"
FLARE = "gpt-image-2.5-flare image_output global standard * 1000000"
OTHER_DATE = "unknown model version: gpt-chat-latest 07012026"
UNCLEAR_HOURS = "unclear kind: ptu_hour with a mark of tokens"
FINE_TUNED = "Azure OpenAI PP FT GPT4s"
WORDS = sorted({word for row in retail_rows() for word in words_of(row.name)})


@pytest.mark.parametrize(
    ("product", "name", "unit", "expected"),
    [
        (
            OPENAI,
            "gpt-4o-0806-Inp-glbl Tokens",
            "1K",
            "gpt-4o-2024-08-06 input global standard * 1000",
        ),
        (
            OPENAI,
            "gpt 4o 1120 cached Inp regnl Tokens",
            "1K",
            "gpt-4o-2024-11-20 cached_input regional standard * 1000",
        ),
        (
            OPENAI,
            "gpt 4o mini0718 BatchOutp DataZone Tokens",
            "1K",
            "gpt-4o-mini-2024-07-18 output data-zone batch * 1000",
        ),
        (
            OPENAI,
            "gpt4o realtimePrvwAudInp DataZone Tokens",
            "1K",
            "gpt-4o-realtime-preview-2024-10-01 audio_input data-zone standard * 1000",
        ),
        (
            OPENAI,
            "gpt4omini-rt-aud1217 cchd Inp DZn Tokens",
            "1K",
            "gpt-4o-mini-realtime-preview-2024-12-17 audio_cached_input data-zone standard * 1000",
        ),
        (
            OPENAI,
            "gpt-4o-aud-1217-txt Outp regnl Tokens",
            "1K",
            "gpt-4o-audio-preview-2024-12-17 output regional standard * 1000",
        ),
        (
            OPENAI,
            "gpt-image-1-inp-cached-txt-dzone Tokens",
            "1K",
            "gpt-image-1 cached_input data-zone standard * 1000",
        ),
        (
            OPENAI,
            "gpt 4.1 mini Inp Data Zone Tokens",
            "1K",
            "gpt-4.1-mini input data-zone standard * 1000",
        ),
        (
            OPENAI,
            "o3 mini 0131 Batch Outp glbl Tokens",
            "1K",
            "o3-mini-2025-01-31 output global batch * 1000",
        ),
        (
            OPENAI,
            "text-embedding-3-large-glbl Tokens",
            "1K",
            "text-embedding-3-large input global standard * 1000",
        ),
        (
            OPENAI,
            "embedding-ada-regional Tokens",
            "1K",
            "text-embedding-ada-002 input regional standard * 1000",
        ),
        (
            OPENAI,
            "Speech-to-Text-Batch-Whisper-glbl Unit",
            "1 Hour",
            "whisper second global standard * 3600",
        ),
        (
            OPENAI,
            "Speech-Text to Speech HD-Regional Characters",
            "1M",
            "tts-hd character regional standard * 1000000",
        ),
        (OPENAI, "Image-DALL-E-2-glbl Images", "100", "dall-e-2 image global standard * 100"),
        (
            OPENAI,
            "file-search-tool-calls-datazone Calls",
            "1K",
            "* file_search data-zone standard * 1000",
        ),
        (
            OPENAI,
            "Code-Interpreter-regnl EP Session",
            "1",
            "* code_interpreter regional standard * 1",
        ),
        (
            OPENAI,
            "Provisioned Managed Data Zone Unit",
            "1/Hour",
            "* ptu_hour data-zone provisioned * 1",
        ),
        (GPT5, "5 pp cd inp Gl 1M Tokens", "1M", "gpt-5 cached_input global priority * 1000000"),
        (
            GPT5,
            "5.4 longco batch cd inp Dz 1M Tokens",
            "1M",
            "gpt-5.4 cached_input data-zone batch long 1000000",
        ),
        (
            GPT5,
            "5.5 ShortCo PP opt Dz 1M Tokens",
            "1M",
            "gpt-5.5 output data-zone priority short 1000000",
        ),
        (
            GPT5,
            "5.6 luna LongCo Cd Wr Std DZ 1M Tokens",
            "1M",
            "gpt-5.6-luna cache_write data-zone standard long 1000000",
        ),
        (
            GPT5,
            "gpt-5-codex-ccchd-inp-glbl Tokens",
            "1K",
            "gpt-5-codex cached_input global standard * 1000",
        ),
        (
            GPT5,
            "5.2 chat 0210 opt Gl 1M Tokens",
            "1M",
            "gpt-5.2-chat-2026-02-10 output global standard * 1000000",
        ),
        (
            GPT5,
            "chat-latest 05282026 inp Gl 1M Tokens",
            "1M",
            "gpt-chat-latest-2026-05-28 input global standard * 1000000",
        ),
        (
            "Azure OpenAI GPT6",
            "6-astra ShortCo Inp Std Gl 1M Tokens",
            "1M",
            "gpt-6-astra input global standard short 1000000",
        ),
        (
            GPT5,
            "56sol ShCo Inp Fl Gl 1M Tokens",
            "1M",
            "gpt-5.6-sol input global flex short 1000000",
        ),
        (
            GPT5,
            "56luna LoCo Cd Wr Fl Gl 1M Tokens",
            "1M",
            "gpt-5.6-luna cache_write global flex long 1000000",
        ),
        (
            FINE_TUNED,
            "4.1 mini pp cd Inp Dz Tokens",
            "1K",
            "gpt-4.1-mini cached_input data-zone priority * 1000",
        ),
        (
            MEDIA,
            "Image 2 img Batch cd inp DZ 1M Tokens",
            "1M",
            "gpt-image-2 image_cached_input data-zone batch * 1000000",
        ),
        (
            MEDIA,
            "gpt img 1.5 out txt gl 1M Tokens",
            "1M",
            "gpt-image-1.5 output global standard * 1000000",
        ),
        (
            MEDIA,
            "gpt rt aud mn cd in rg 1215 1M Tokens",
            "1M",
            "gpt-realtime-mini-2025-12-15 audio_cached_input regional standard * 1000000",
        ),
        (
            MEDIA,
            "gpt rt img 0828 Inp DZn Tokens",
            "1K",
            "gpt-realtime-2025-08-28 image_input data-zone standard * 1000",
        ),
        (
            MEDIA,
            "gpt aud 1.5 opt Dz 1M Tokens",
            "1M",
            "gpt-audio-1.5 audio_output data-zone standard * 1000000",
        ),
        (
            MEDIA,
            "gpt 4o tcrb d aud inp rgnl Tokens",
            "1K",
            "gpt-4o-transcribe-diarize audio_input regional standard * 1000",
        ),
        (
            MEDIA,
            "gpt-realtime-2.1-mini Text opt DZ 1M Tokens",
            "1M",
            "gpt-realtime-2.1-mini output data-zone standard * 1000000",
        ),
        (
            MEDIA,
            "gpt-realtime-whisper Opt Gl Unit",
            "1 Hour",
            "gpt-realtime-whisper second global standard * 3600",
        ),
    ],
)
def test_a_name_says_model_kind_place_tier_context_and_unit(
    product: str, name: str, unit: str, expected: str
) -> None:
    """Each spelling of Azure's has one meaning."""
    found = parse_meter(product, name, unit)

    assert isinstance(found, Meter)
    assert (
        f"{found.model} {found.kind} {found.deployment_type} {found.tier} {found.context} {found.unit}"
        == expected
    )


@pytest.mark.parametrize(
    ("product", "name", "unit", "expected"),
    [
        (GPT5, "5.4 turbo9 inp Gl 1M Tokens", "1M", "unknown word: turbo9"),
        (GPT5, "5.4 inp Gl new 1M Tokens", "1M", "unknown word: new"),
        (GPT5, "5.4 inp Gl 1M Images", "1M", "unclear kind: input by the image"),
        (GPT5, "5.4 img inp Gl 1M Tokens", "1M", "unknown model: gpt 5.4 image"),
        (GPT5, "5.4 inp Gl Tokens 1M", "1M", "unknown word: tokens"),
        (GPT5, "5.4 inp Gl Dz 1M Tokens", "1M", "unclear kind: both gl and dz"),
        (OPENAI, "text-embedding-3-large-glbl Outp Tokens", "1K", UNCLEAR_EMBEDDING),
        (
            OPENAI,
            "Image-DALL-E-2-PP-glbl Images",
            "100",
            "unclear kind: image with a mark of tokens",
        ),
        (OPENAI, "Provisioned Managed Global cd Unit", "1/Hour", UNCLEAR_HOURS),
        (GPT5, "5.4 Inp Opt Gl 1M Tokens", "1M", "unclear kind: both inp and opt"),
        (GPT5, "5.4 inp 1M Tokens", "1M", "no deployment type"),
        (GPT5, "5.4 Gl 1M Tokens", "1M", "unclear kind: neither input nor output"),
        (GPT5, "5.4 inp Gl 1M Tokens", "1 Hour", "unclear unit: 1 Hour of input"),
        (GPT5, "5.4 inp Gl 1M Tokens", "some", "unclear unit: some of input"),
        (GPT5, "5.4 cd opt Gl 1M Tokens", "1M", "unclear kind: cached output"),
        (OPENAI, "gpt 4o 0101 Inp glbl Tokens", "1K", "unknown model version: gpt-4o 0101"),
        (GPT5, "chat-latest 07012026 inp Gl 1M Tokens", "1M", OTHER_DATE),
        (OPENAI, "Az-GPT4-Turbo-128K Input Tokens", "1K", "no deployment type"),
        (OPENAI, "gpt-4.1-ft input global Tokens", "1K", "fine-tuning"),
        (OPENAI, "Assistants-File Search-glbl GB", "1/Day", "storage"),
        (MEDIA, "gpt-latest 05052026 cd inp Gl 1M Tokens", "1M", "unknown model: gpt latest"),
        (MEDIA, "gpt aud 1.5 img inp Gl 1M Tokens", "1M", "unknown model: gpt audio 1.5 image"),
        (MEDIA, "Sora 2 pro glbl Second", "1", "video"),
        ("Azure Grok Models", "4.3 Inp DZ Tokens", "1K", "not Azure OpenAI: Azure Grok Models"),
    ],
)
def test_a_name_that_says_too_little_is_skipped_with_the_reason(
    product: str, name: str, unit: str, expected: str
) -> None:
    """No word is passed over, and nothing is guessed."""
    assert str(parse_meter(product, name, unit)) == expected


def test_every_real_row_is_parsed_or_skipped_for_a_named_reason() -> None:
    """The counts that `prices import` prints for Azure's list of 2026-08-11."""
    found = [parse_meter(row.product, row.name, row.unit) for row in retail_rows()]

    assert Counter(each.reason if isinstance(each, Skipped) else "parsed" for each in found) == {
        "parsed": 2165,
        Reason.NOT_AZURE_OPENAI: 510,
        Reason.FINE_TUNING: 424,
        Reason.VIDEO: 60,
        Reason.NO_DEPLOYMENT_TYPE: 24,
        Reason.IMAGE_QUALITY: 12,
        Reason.STORAGE: 7,
        Reason.COMMITMENT: 6,
        Reason.UNKNOWN_MODEL: 6,
        Reason.RETIRED: 70,
        Reason.BOTH_DIRECTIONS: 4,
        Reason.FREE: 1,
    }


def test_the_page_tells_how_many_are_read() -> None:
    """docs/price-book.md is about this list."""
    page = (REPOSITORY / "docs" / "price-book.md").read_text(encoding="utf-8")

    assert "Of 3,289 rows of August 2026, 2,165 are read" in page


def test_case_makes_no_difference() -> None:
    """Exports spell names as they like."""
    openai = [row for row in retail_rows() if row.product.startswith("Azure OpenAI")]

    assert [parse_meter(row.product.upper(), row.name.upper(), row.unit) for row in openai] == [
        parse_meter(row.product, row.name, row.unit) for row in openai
    ]


def test_a_product_may_name_the_deployment_type_of_all_its_meters() -> None:
    """A meter whose own name says one goes by that."""
    found = [
        parse_meter("Azure OpenAI Regional GPT5", f"5.4 inp{place} 1M Tokens", "1M")
        for place in ("", " Gl")
    ]

    assert [isinstance(each, Meter) and each.deployment_type for each in found] == [
        "regional",
        "global",
    ]


def test_an_unknown_word_is_nowhere_passed_over() -> None:
    """Put into each real name, before each of its words and at its end."""
    for row in retail_rows():
        if not isinstance(parse_meter(row.product, row.name, row.unit), Meter):
            continue
        words = row.name.split()
        for at in range(len(words) + 1):
            name = " ".join([*words[:at], "zz", *words[at:]])
            found = parse_meter(row.product, name, row.unit)
            assert isinstance(found, Skipped), name


def test_a_name_without_its_deployment_type_is_no_price() -> None:
    """Which of three prices it is cannot be told."""
    for row in retail_rows():
        words = [word for word in words_of(row.name) if word not in DEPLOYMENT_TYPES]
        assert isinstance(parse_meter(row.product, " ".join(words), row.unit), Skipped), row.name


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([OPENAI, GPT5, MEDIA, "Azure OpenAI", ""]),
    st.lists(st.sampled_from([*WORDS, "zz", "1120", "05282026", "1M"]), max_size=8) | st.text(),
    st.sampled_from(["1K", "1M", "1 Hour", "1/Hour", "1", "100"]) | st.text(max_size=9),
)
def test_any_name_is_a_meter_or_a_reason(product: str, name: list[str] | str, unit: str) -> None:
    """Whatever Azure calls its meters; a meter names a model, and counts at least one."""
    text = name if isinstance(name, str) else " ".join(name)
    found = parse_meter(product, text, unit)

    if isinstance(found, Meter):
        assert found.model
        assert found.unit >= 1
        assert "zz" not in name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1K", (1_000, "")),
        ("1M", (1_000_000, "")),
        ("1M Tokens", (1_000_000, "token")),
        ("10K", (10_000, "")),
        ("1 Hour", (1, "hour")),
        ("1/Hour", (1, "hour")),
        ("1 Hours", (1, "hour")),
        ("1,000", (1_000, "")),
        ("1 Million", (1_000_000, "")),
        ("1 Minute", (1, "minute")),
        ("100", (100, "")),
        ("1 GB/Month", None),
        ("0", None),
        ("", None),
        ("K", None),
        ("1.5K", None),
        ("-1", None),
        ("1,00", None),
        ("9" * 13, None),
        ("١", None),
    ],
)
def test_units_of_measure_are_whole_numbers_of_something(
    text: str, expected: tuple[int, str] | None
) -> None:
    """As the price list, the cost exports and FOCUS write them."""
    found = parse_measure(text)

    assert (found and (found.count, found.noun)) == expected


def test_kinds_are_those_of_the_price_book() -> None:
    """A meter is priced under the kind that counts it."""
    kinds = {
        found.kind
        for row in retail_rows()
        if isinstance(found := parse_meter(row.product, row.name, row.unit), Meter)
    }

    assert set(Kind) - kinds == {Kind.WEB_SEARCH}
