"""The stand-in answers with every kind of usage on request, and its record has what it bills."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.audio import TranscriptionVerbose
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from local.openai.asked import COUNTS
from local.openai.server import StandIn
from meter.usage import COUNT_NAMES
from tests.support.kinds import IMAGE_HEADER, IMAGE_TOOL, KINDS, TOOLS, seen_in
from tests.support.openai_bench import Bench, open_bench
from tests.support.running import REPOSITORY

OPENAI_1 = Path(sys.prefix) / "openai1"
CLIENT = REPOSITORY / "tests" / "support" / "kinds.py"
TOOL_CALLS = {"web_search_calls": 3, "file_search_calls": 2, "code_interpreter_calls": 2}


def tokens(prompt: int, completion: int, total: int, **shares: int) -> dict[str, int]:
    """The counts of a call that is billed by the token."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return dict(zip(names, (prompt, completion, total), strict=True)) | shares


USUAL = tokens(7, 12, 19, cached_tokens=1)
ASKED = tokens(8, 13, 21, cached_tokens=2)
WRITES = tokens(2000, 14, 2014, cached_tokens=500, cache_write_tokens=1000, reasoning_tokens=7)
SOUNDS = tokens(
    400,
    200,
    600,
    cached_tokens=100,
    audio_tokens=450,
    audio_prompt_tokens=300,
    audio_cached_tokens=80,
    audio_completion_tokens=150,
)
PICTURES = tokens(
    900,
    14,
    914,
    cached_tokens=200,
    image_tokens=700,
    image_prompt_tokens=700,
    image_cached_tokens=128,
)
BILLED: Mapping[str, Mapping[str, int]] = {
    "chat": USUAL,
    "chat priority": USUAL,
    "chat priority, downgraded": ASKED,
    "chat flex, streamed": USUAL,
    "chat downgraded, streamed": ASKED,
    "chat with cache writes": WRITES,
    "chat with audio": SOUNDS,
    "chat with audio, streamed": SOUNDS,
    "chat with images": PICTURES,
    "embedding": {"prompt_tokens": 40, "total_tokens": 40},
    "response": WRITES,
    "response with tools": tokens(13, 7, 20, cached_tokens=3) | TOOL_CALLS,
    "images": tokens(2, 2112, 2114, image_tokens=2112, image_completion_tokens=2112),
    "images, split": tokens(3, 1056, 1059, image_tokens=1000, image_completion_tokens=1000),
    "images without tokens": {"images": 3},
    "transcription by the second": {"seconds": 61},
    "whisper": {"seconds": 3},
    "speech by the character": {"characters": 21},
    "speech as events": tokens(2, 40, 42, audio_tokens=40, audio_completion_tokens=40),
}


@dataclass(frozen=True, slots=True)
class Made:
    """What the SDK read of each kind of call, and the record of it."""

    seen: Mapping[str, Any]
    record: Mapping[str, Any]


@pytest.fixture(scope="module")
def made() -> Made:
    """One call of each kind, in their order, by the SDK of the tests."""
    return asyncio.run(_make_calls())


async def _make_calls() -> Made:
    server = StandIn("eu-test")
    url = f"http://127.0.0.1:{await server.start()}/openai/v1/"
    client = openai.OpenAI(base_url=url, api_key="any", max_retries=0)
    try:
        seen = {
            name: await asyncio.to_thread(lambda make=make: seen_in(make(client)))  # type: ignore[misc]
            for name, make in KINDS.items()
        }
    finally:
        client.close()
        await server.stop()
    return Made(seen, dict(zip(KINDS, server.calls.as_json(), strict=True)))


@pytest.fixture
async def bench(tmp_path: Path) -> Any:
    async with open_bench(tmp_path / "calls.jsonl") as opened:
        yield opened


async def ask(bench: Bench, words: str, **body: Any) -> Any:
    """The answer to a chat whose text has these words."""
    message = {"role": "user", "content": words}
    status, answer = await bench.post(
        "/openai/v1/chat/completions", {"model": "gpt-4o", "messages": [message]} | body
    )
    assert status == 200
    return answer


def test_the_names_of_counts_are_those_of_the_usage_event(made: Made) -> None:
    """The record can be compared with the tables name by name."""
    names = {name for call in made.record.values() for name in call["counts"]}

    assert names == set(COUNT_NAMES)
    assert set(COUNT_NAMES) > COUNTS


@pytest.mark.parametrize("name", list(BILLED))
def test_each_kind_is_billed_as_it_was_asked(made: Made, name: str) -> None:
    """The record has each count that is not 0, whether the answer was streamed or not."""
    assert made.record[name]["counts"] == BILLED[name]


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("chat", None),
        ("chat priority", "priority"),
        ("chat priority, downgraded", "default"),
        ("chat flex, streamed", "flex"),
        ("chat downgraded, streamed", "default"),
        ("chat of an unknown tier", "turbo"),
        ("response", "default"),
        ("response priority, streamed", "priority"),
        ("response downgraded, streamed", "default"),
        ("response flex", "flex"),
    ],
)
def test_the_answer_says_which_tier_served_it(made: Made, name: str, tier: str | None) -> None:
    """Chat only when it was asked for one, in every chunk; Responses always."""
    assert made.seen[name].get("service_tier") == tier
    assert made.record[name]["service_tier"] == tier


@pytest.mark.parametrize("name", ["response with tools", "response with tools, streamed"])
def test_a_response_lists_its_hosted_tool_calls(made: Made, name: str) -> None:
    """Each has its type, and what the bill depends on; the message comes last."""
    response = made.seen[name]
    items = Response.model_validate(response, strict=True).output

    assert [item.type for item in items] == (
        ["web_search_call"] * 6
        + ["file_search_call"] * 2
        + ["code_interpreter_call"] * 5
        + ["message"]
    )
    actions = [item["action"]["type"] for item in response["output"][:6]]
    assert actions == ["search"] * 3 + ["open_page"] * 2 + ["find_in_page"]
    assert len({item.get("container_id") for item in response["output"][8:13]}) == 2
    assert "tool_usage" not in response
    assert made.record[name]["counts"].items() >= TOOL_CALLS.items()


@pytest.mark.parametrize("name", ["response with images", "response with images, streamed"])
def test_the_image_tool_is_billed_to_its_own_deployment(made: Made, name: str) -> None:
    """`tool_usage` has its tokens, which are not in `usage`."""
    response = Response.model_validate(made.seen[name], strict=True)

    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (8, 13)
    assert made.seen[name]["tool_usage"] == {
        "image_gen": {
            "input_tokens": 500,
            "output_tokens": 2112,
            "total_tokens": 2612,
            "cached_tokens": 200,
            "cached_tokens_details": {"cached_image_tokens": 160, "cached_text_tokens": 40},
            "input_tokens_details": {"image_tokens": 400, "text_tokens": 100},
            "output_tokens_details": {"image_tokens": 2112, "text_tokens": 0},
        },
        "web_search": {"num_requests": 0},
    }
    [tool] = made.record[name]["tools"]
    assert (tool["deployment"], tool["model"]) == ("gpt-image-1", "gpt-image-1")
    assert tool["counts"] == tokens(
        500,
        2112,
        2612,
        cached_tokens=200,
        image_tokens=2512,
        image_prompt_tokens=400,
        image_cached_tokens=160,
        image_completion_tokens=2112,
    )


def test_searches_that_are_told_are_billed_in_place_of_the_items(made: Made) -> None:
    """Not every search is billed, so that `num_requests` may be less than the items."""
    response = made.seen["response with told searches"]

    assert response["tool_usage"]["web_search"] == {"num_requests": 2}
    assert response["tool_usage"]["image_gen"]["total_tokens"] == 0
    assert [item["type"] for item in response["output"]] == ["web_search_call"] * 4 + ["message"]
    assert made.record["response with told searches"]["counts"]["web_search_calls"] == 2
    Response.model_validate(response, strict=True)


def test_details_are_where_the_api_has_them(made: Made) -> None:
    """Cached audio and images as in the Realtime API; a split of output for images."""
    chat = made.seen["chat with audio"]["usage"]
    pictures = made.seen["chat with images"]["usage"]["prompt_tokens_details"]

    assert chat["prompt_tokens_details"] == {
        "audio_tokens": 300,
        "cached_tokens": 100,
        "cached_tokens_details": {"audio_tokens": 80},
    }
    assert chat["completion_tokens_details"]["audio_tokens"] == 150
    assert made.seen["chat with audio, streamed"]["usage"] == chat
    assert pictures["image_tokens"] == 700
    assert pictures["cached_tokens_details"] == {"image_tokens": 128}
    assert made.seen["chat with cache writes"]["usage"]["prompt_tokens_details"] == {
        "audio_tokens": 0,
        "cached_tokens": 500,
        "cache_write_tokens": 1000,
    }
    assert "output_tokens_details" not in made.seen["images"]["usage"]
    assert made.seen["images, split"]["usage"]["output_tokens_details"] == {
        "image_tokens": 1000,
        "text_tokens": 56,
    }
    assert "usage" not in made.seen["images without tokens"]


def test_seconds_are_told_as_the_api_tells_them(made: Made) -> None:
    """Whisper as `duration` beside the text and in its usage; a newer model in its usage alone."""
    whisper = TranscriptionVerbose.model_validate(made.seen["whisper"], strict=True)

    assert (whisper.duration, made.seen["whisper"]["usage"]["seconds"]) == (2.5, 2.5)
    assert made.seen["transcription by the second"]["usage"] == {"type": "duration", "seconds": 61}


async def test_every_event_of_tools_and_tiers_is_one_that_the_sdk_knows(bench: Bench) -> None:
    """Strictly validated: names, items in progress and done, and the tier asked, then served."""
    words = f"{TOOLS} image_calls=1 service_tier=default"
    tools: Any = [IMAGE_TOOL]
    stream = await bench.v1.responses.create(
        model="gpt-4o",
        input=words,
        tools=tools,
        extra_headers=IMAGE_HEADER,
        service_tier="priority",
        stream=True,
    )
    events = [event async for event in stream]

    adapter: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    kinds = [adapter.validate_python(event.to_dict(), strict=True).type for event in events]
    assert kinds.count("response.output_item.done") == 15
    assert kinds.count("response.code_interpreter_call.interpreting") == 5
    assert kinds.count("response.image_generation_call.generating") == 1
    assert kinds[2:7] == [
        "response.output_item.added",
        "response.web_search_call.in_progress",
        "response.web_search_call.searching",
        "response.web_search_call.completed",
        "response.output_item.done",
    ]
    tiers = [event.response.service_tier for event in events if hasattr(event, "response")]
    assert tiers == ["priority", "priority", "default"]


async def test_every_chunk_of_a_chat_has_the_tier(bench: Bench) -> None:
    """All but Azure's first, which has nothing of the answer."""
    stream = await bench.azure.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        service_tier="priority",
        stream=True,
    )
    first, *chunks = [chunk async for chunk in stream]

    assert first.service_tier is None
    assert {chunk.service_tier for chunk in chunks} == {"priority"}
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.to_dict(), strict=True)


@pytest.mark.parametrize(
    ("word", "answered"),
    [
        ("cached_tokens=-5", -5),
        ("cached_tokens=1e30", 1e30),
        ("cached_tokens=12345678901", 12_345_678_901),
        ("cached_tokens=1.5", 1.5),
        ("cached_tokens=null", None),
        ("cached_tokens=true", True),
        ("cached_tokens=[]", []),
        ("cached_tokens=many", "many"),
    ],
)
async def test_what_makes_no_sense_is_answered_and_not_billed(
    bench: Bench, word: str, answered: object
) -> None:
    """The answer has the value as it is, the record the rule's own number."""
    answer = await ask(bench, f"one two three four five {word}")

    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == answered
    [call] = await bench.calls()
    assert call["counts"]["cached_tokens"] == 2


async def test_other_words_ask_for_nothing(bench: Bench) -> None:
    """A text may have equations: only known names count, and the last word of a name."""
    answer = await ask(bench, "x=1 prompt_tokens = 3 tokens=9 prompt_tokens=50 prompt_tokens=60")

    assert answer["usage"]["prompt_tokens"] == 60
    assert ChatCompletion.model_validate(answer).service_tier is None


async def test_items_without_a_type_and_10_000_of_them(bench: Bench) -> None:
    """What a parser of answers must withstand."""
    body = {"model": "gpt-4o", "input": "web_searches=10000 untyped_items=2"}
    status, answer = await bench.post("/openai/v1/responses", body)

    assert (status, len(answer["output"])) == (200, 10_003)
    assert [item.get("type") for item in answer["output"][9_999:]] == [
        *("web_search_call", None, None, "message")
    ]
    [call] = await bench.calls()
    assert call["counts"]["web_search_calls"] == 10_000


async def test_a_fault_asks_for_callers_that_cannot(bench: Bench) -> None:
    """Its words count as if the text had them, for each call that it strikes."""
    await bench.fault(asks="cached_tokens=0 service_tier=flex", deployment="gpt-4o")
    first, second = await ask(bench, "one two three"), await ask(bench, "one two three")

    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert (first["service_tier"], "service_tier" in second) == ("flex", False)
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 1


async def test_the_record_says_what_was_asked_for_and_where_it_spilled_from(bench: Bench) -> None:
    """The tier asked for beside the one that served, and the deployment of a spillover header."""
    await bench.fault(headers={"x-ms-spillover-from-deployment": "ptu"})
    await ask(bench, "service_tier=default", service_tier="priority")
    await ask(bench, "hi")

    first, second = await bench.calls()
    assert (first["requested_tier"], first["service_tier"]) == ("priority", "default")
    assert (first["spilled_from"], second["spilled_from"]) == ("ptu", None)
    assert (second["requested_tier"], second["service_tier"]) == (None, None)


async def test_a_response_is_fetched_with_what_it_reported(bench: Bench) -> None:
    """By its id, later: the same items, tier and usage of tools."""
    created = await bench.v1.responses.create(
        model="gpt-4o", input="image_calls=1 file_searches=1", service_tier="flex"
    )
    again = await bench.v1.responses.retrieve(created.id)

    assert again.to_dict() == created.to_dict()
    assert again.to_dict()["tool_usage"]


def test_the_old_sdk_reads_the_same(made: Made) -> None:
    """openai 1.x, in a process of its own."""
    seen = asyncio.run(_read_with_old_sdk())

    assert seen["version"].startswith("1.")
    members = ("usage", "tool_usage", "service_tier")
    for name, document in made.seen.items():
        for member in members:
            assert seen["seen"][name].get(member) == document.get(member), (name, member)


async def _read_with_old_sdk() -> Any:
    server = StandIn("eu-test")
    url = f"http://127.0.0.1:{await server.start()}"
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, str(CLIENT), url, "any"],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(OPENAI_1)},
        )
    finally:
        await server.stop()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
