"""The AOAI stand-in satisfies the real OpenAI SDK, and its record equals what the SDK saw."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from local.openai.server import StandIn
from tests.support.openai_bench import API_VERSION, KEY, Bench, open_bench

# 4 words and 3 for the message: 7 prompt tokens, 1 of them cached; 5 + 7 % 11 words are answered.
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "count my tokens please"}]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "calls.jsonl") as opened:
        yield opened


def chunks_of(pieces: list[bytes]) -> list[dict[str, Any]]:
    frames = b"".join(pieces).decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


async def raw_stream(bench: Bench, body: dict[str, Any]) -> list[bytes]:
    """A chat stream without the SDK: the pieces as written."""
    path = f"/openai/deployments/gpt-4o/chat/completions?api-version={API_VERSION}"
    sent = {"messages": MESSAGES, "stream": True} | body
    headers = {"api-key": KEY}
    async with bench.http.post(f"{bench.url}{path}", json=sent, headers=headers) as answer:
        return [piece async for piece, _ in answer.content.iter_chunks()]


async def read_all(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


async def one_call(http: aiohttp.ClientSession, url: str) -> int:
    body = {"model": "mine", "messages": []}
    async with http.post(f"{url}/openai/v1/chat/completions", json=body) as answer:
        return answer.status


async def collect(answer: aiohttp.ClientResponse, received: bytearray) -> None:
    async for piece in answer.content.iter_any():
        received += piece


async def test_a_chat_answer_counts_by_the_rule(bench: Bench) -> None:
    """Prompt: words plus 3 per message; completion: one token per word of the answer."""
    answer = await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == 19
    assert len((answer.choices[0].message.content or "").split()) == 12
    assert answer.model == "gpt-4o-2024-11-20"
    assert answer.choices[0].finish_reason == "stop"


async def test_usage_details_are_part_of_the_totals(bench: Bench) -> None:
    """Cached tokens are within the prompt, reasoning within the completion; `n` multiplies."""
    answer = await bench.v1.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        n=2,
        max_completion_tokens=9,
        reasoning_effort="low",
    )

    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1
    assert answer.usage.completion_tokens_details.reasoning_tokens == 8
    assert answer.usage.completion_tokens == 18
    assert [len((choice.message.content or "").split()) for choice in answer.choices] == [5, 5]
    assert answer.choices[0].finish_reason == "length"


async def test_a_stream_has_usage_only_on_request(bench: Bench) -> None:
    """Without include_usage no chunk has usage; with it the last chunk has, the others null."""
    silent = await bench.azure.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True
    )
    without = [chunk.usage async for chunk in silent]
    asked = await bench.azure.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in asked]

    assert set(without) == {None}
    assert {chunk.usage for chunk in chunks[:-1]} == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 19
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[1:-1])
    assert len(text.split()) == 12


async def test_a_stream_has_azures_quirks(bench: Bench) -> None:
    """First chunk without choices, id, model; `usage: null` everywhere; a choice without delta."""
    await bench.fault(async_filter=True)
    pieces = await raw_stream(bench, {"stream_options": {"include_usage": True}})

    chunks = chunks_of(pieces)
    assert (chunks[0]["choices"], chunks[0]["id"], chunks[0]["model"]) == ([], "", "")
    assert chunks[0]["prompt_filter_results"][0]["prompt_index"] == 0
    assert chunks[1]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 16
    assert "delta" not in chunks[-2]["choices"][0]
    assert chunks[-2]["choices"][0]["content_filter_offsets"]["start_offset"] == 0
    assert chunks[-3]["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_without_include_usage_has_no_usage_key(bench: Bench) -> None:
    """A caller that did not ask for usage never sees the word."""
    pieces = await raw_stream(bench, {"stream_options": {"include_usage": False}})

    assert b'"usage"' not in b"".join(pieces)


async def test_completions_count_every_prompt(bench: Bench) -> None:
    """Completions: words of all prompts, one choice each; streams end with the same usage."""
    answer = await bench.azure.completions.create(
        model="gpt-4o", prompt=["one two", "three"], max_tokens=4
    )
    stream = await bench.v1.completions.create(
        model="gpt-4o", prompt="one two", stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]

    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 8)
    assert len(answer.choices) == 2
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 7)


async def test_embeddings_are_equal_in_both_encodings(bench: Bench) -> None:
    """The same text gives the same vector, packed or not; embeddings bill the prompt alone."""
    model = "text-embedding-3-small"
    packed = await bench.azure.embeddings.create(model=model, input=["one two", "three"])
    plain = await bench.v1.embeddings.create(
        model=model, input=["one two", "three"], encoding_format="float"
    )

    assert [list(item.embedding) for item in packed.data] == [
        list(item.embedding) for item in plain.data
    ]
    assert len(plain.data[0].embedding) == 1536
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (3, 3)


async def test_responses_count_by_the_rule(bench: Bench) -> None:
    """A text input is one message, instructions are another; both address shapes work."""
    v1 = await bench.v1.responses.create(
        model="gpt-4o", input="one two", instructions="be brief", reasoning={"effort": "low"}
    )
    classic = await bench.azure.responses.create(model="gpt-4o", input="one two")

    assert v1.usage is not None
    assert classic.usage is not None
    assert (v1.usage.input_tokens, v1.usage.output_tokens) == (10, 15)
    assert v1.usage.input_tokens_details.cached_tokens == 2
    assert v1.usage.output_tokens_details.reasoning_tokens == 7
    assert len(v1.output_text.split()) == 8
    assert (classic.usage.input_tokens, classic.usage.output_tokens) == (5, 10)


async def test_a_response_stream_ends_with_usage(bench: Bench) -> None:
    """Named events from response.created to response.completed; the usage is in the last."""
    stream = await bench.v1.responses.create(model="gpt-4o", input="one two", stream=True)
    events = [event async for event in stream]

    assert events[0].type == "response.created"
    assert sum(event.type == "response.output_text.delta" for event in events) == 10
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert last.response.usage.total_tokens == 15
    assert [event.sequence_number for event in events] == list(range(18))


async def test_models_are_listed(bench: Bench) -> None:
    """Both address shapes list the models behind the deployments."""
    classic = [model.id async for model in bench.azure.models.list()]
    v1 = [model.id async for model in bench.v1.models.list()]

    assert classic == v1
    assert "gpt-4o-2024-11-20" in v1


async def test_the_record_equals_what_the_sdk_saw(bench: Bench) -> None:
    """One line per call with the answer's id and usage, and names of headers, never values."""
    raw = await bench.azure.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=MESSAGES, extra_headers={"caller-subject": "alice"}
    )
    answer = raw.parse()

    [call] = await bench.calls()
    assert answer.usage is not None
    assert call["usage"] == answer.usage.model_dump(exclude_none=True)
    assert call["id"] == raw.headers["x-request-id"]
    assert raw.headers["x-ms-region"] == "eu-test"
    assert raw.headers["x-ms-deployment-name"] == "gpt-4o"
    assert call["operation"] == "chat/completions"
    assert (call["deployment"], call["model"]) == ("gpt-4o", "gpt-4o-2024-11-20")
    assert (call["status"], call["streaming"], call["completed"]) == (200, False, True)
    assert (call["caller_subject"], call["api_version"]) == ("alice", API_VERSION)
    assert "api-key" in call["request_headers"]
    assert KEY not in json.dumps(call)


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "code"),
    [
        (
            f"/openai/deployments/gpt-4o/chat/completions?api-version={API_VERSION}",
            {},
            {},
            401,
            "401",
        ),
        ("/openai/v1/chat/completions", {"api-key": "wrong"}, {"model": "gpt-4o"}, 401, "401"),
        ("/openai/deployments/gpt-4o/chat/completions", None, {}, 404, "404"),
        ("/openai/v1/audio/voices", None, {}, 404, "404"),
        ("/openai/v1/chat/completions", None, {"model": "gpt-9"}, 404, "DeploymentNotFound"),
        (
            f"/openai/deployments/gpt-9/embeddings?api-version={API_VERSION}",
            *(None, {}, 404, "DeploymentNotFound"),
        ),
        ("/openai/v1/embeddings", None, {"model": "gpt-4o"}, 400, "OperationNotSupported"),
        ("/openai/v1/chat/completions", None, {"model": "gpt-4o"}, 400, None),
        ("/openai/v1/chat/completions", None, [], 400, None),
    ],
)
async def test_a_refused_call_is_recorded_without_usage(
    bench: Bench,
    path: str,
    headers: dict[str, str] | None,
    body: object,
    status: int,
    code: str | None,
) -> None:
    """Azure's status and code for each mistake of a caller; the record has the call, no usage."""
    answered, error = await bench.post(path, body, headers)

    [call] = await bench.calls()
    assert (answered, error["error"]["code"]) == (status, code)
    assert set(error["error"]) == {"code", "message", "type", "param"}
    assert (call["status"], call["usage"], call["completed"]) == (status, None, True)


async def test_a_throttled_call_says_when_to_retry(bench: Bench) -> None:
    """A 429 carries the fault's headers and Azure's text code; the next call is served."""
    await bench.fault(status=429, headers={"Retry-After": "7"})
    with pytest.raises(openai.RateLimitError) as caught:
        await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert caught.value.code == "429"
    assert caught.value.response.headers["retry-after"] == "7"
    assert "retry after 7 seconds" in caught.value.message
    assert [call["status"] for call in await bench.calls()] == [429, 200]


async def test_a_fault_strikes_its_deployment_and_as_often_as_counted(bench: Bench) -> None:
    """Other deployments are spared; `count: null` strikes until the faults are cleared."""
    await bench.fault(status=503, deployment="gpt-4o", count=2)
    await bench.fault(status=500, deployment="gpt-4o", count=None)
    path = "/openai/v1/chat/completions"
    names = ["gpt-4o-mini", "gpt-4o", "gpt-4o", "gpt-4o", "gpt-4o"]
    answers = [await bench.post(path, {"model": name, "messages": []}) for name in names]
    async with bench.http.delete(f"{bench.url}/_faults"):
        pass
    answers.append(await bench.post(path, {"model": "gpt-4o", "messages": []}))

    assert [status for status, _ in answers] == [200, 503, 503, 500, 500, 200]


async def test_stream_options_can_be_rejected(bench: Bench) -> None:
    """The fault waits for a call that carries stream_options and answers 400, as old ones do."""
    await bench.fault(reject_stream_options=True)
    await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="stream_options"):
        await bench.azure.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )


async def test_a_cut_stream_never_looks_like_a_clean_end(bench: Bench) -> None:
    """A reset inside a stream raises in the SDK; the account still bills the call."""
    await bench.fault(cut_after_bytes=900)
    stream = await bench.azure.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True
    )
    with pytest.raises(openai.APIConnectionError):
        await read_all(stream)

    [call] = await bench.calls()
    assert (call["status"], call["completed"]) == (200, False)
    assert call["usage"]["total_tokens"] == 19


async def test_a_cut_sends_exactly_the_requested_bytes(bench: Bench) -> None:
    """`cut_after_bytes` counts body bytes, and all bytes sent before the reset arrive."""
    await bench.fault(cut_after_bytes=700, chunk_delay_ms=1)
    path = f"{bench.url}/openai/v1/chat/completions"
    body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
    received = bytearray()
    async with bench.http.post(path, json=body, headers={"api-key": KEY}) as answer:
        with pytest.raises(aiohttp.ClientError):
            await collect(answer, received)

    assert len(received) == 700


async def test_a_reset_connection_gives_no_answer(bench: Bench) -> None:
    """`reset` breaks the connection before the first byte; the call is recorded without status."""
    await bench.fault(reset=True)
    with pytest.raises(openai.APIConnectionError):
        await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    [call] = await bench.calls()
    assert (call["status"], call["usage"], call["completed"]) == (None, None, False)


async def test_a_hanging_call_never_answers(bench: Bench) -> None:
    """`hang` leaves the caller to its own timeout; the call is recorded without a status."""
    await bench.fault(hang=True)
    with pytest.raises(openai.APITimeoutError):
        await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES, timeout=1)

    [call] = await bench.calls()
    assert (call["status"], call["completed"]) == (None, False)


async def test_a_client_that_disconnects_is_billed_in_full(bench: Bench) -> None:
    """A stream abandoned half-way is recorded as not completed, with the full usage."""
    await bench.fault(chunk_delay_ms=20)
    stream = await bench.azure.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True
    )
    async for _ in stream:
        break
    await stream.close()

    [call] = await bench.recorded(1)
    assert (call["streaming"], call["completed"]) == (True, False)
    assert call["usage"]["total_tokens"] == 19


async def test_a_split_stream_carries_the_same_text(bench: Bench) -> None:
    """Pieces of 3 bytes cut frames and characters; joined they are the stream."""
    whole = chunks_of(await raw_stream(bench, {}))
    await bench.fault(split_bytes=3)
    pieces = await raw_stream(bench, {})

    assert {len(piece) for piece in pieces[:-1]} == {3}
    texts = [
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[1:])
        for chunks in (whole, chunks_of(pieces))
    ]
    assert texts[0] == texts[1]
    assert "日本" in texts[0]


async def test_an_answer_can_leave_its_usage_out(bench: Bench) -> None:
    """`no_usage` hides the numbers from the caller; the record still has them."""
    await bench.fault(no_usage=True)
    answer = await bench.azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    [call] = await bench.calls()
    assert answer.usage is None
    assert call["usage"]["total_tokens"] == 19


async def test_a_fault_can_replace_the_body_and_add_headers(bench: Bench) -> None:
    """A text body is sent unchanged; a fault's headers override Azure's."""
    await bench.fault(body="data: junk", headers={"content-type": "text/event-stream"})
    headers = {"api-key": KEY}
    url = f"{bench.url}/openai/v1/chat/completions"
    body = {"model": "gpt-4o", "messages": []}
    async with bench.http.post(url, json=body, headers=headers) as answer:
        received = await answer.text()

    assert (answer.status, answer.content_type, received) == (
        200,
        "text/event-stream",
        "data: junk",
    )


async def test_an_unknown_fault_is_refused(bench: Bench) -> None:
    """A misspelt fault would make a test pass vacuously: every bad key is named."""
    async with bench.http.post(f"{bench.url}/_faults", json={"hung": 1, "status": "x"}) as answer:
        message = (await answer.json())["error"]

    assert answer.status == 400
    assert "'hung'" in message
    assert "status must be" in message


async def test_the_record_survives_a_restart(tmp_path: Path, bench: Bench) -> None:
    """A new process on the same file knows the calls, even if the old one died mid-line."""
    await bench.post("/openai/v1/embeddings", {"model": "text-embedding-3-small", "input": "a b"})
    before = await bench.calls()
    with (tmp_path / "calls.jsonl").open("a") as file:
        file.write('{"id": "torn')

    again = StandIn("eu-test", record=tmp_path / "calls.jsonl")

    assert json.loads(json.dumps(again.calls.as_json())) == before
    assert again.calls.as_json()[0]["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert len((tmp_path / "calls.jsonl").read_text().splitlines()) == 1


async def test_the_record_can_be_emptied(tmp_path: Path, bench: Bench) -> None:
    """`DELETE /_calls` empties memory and file."""
    await bench.post("/openai/v1/embeddings", {"model": "text-embedding-3-small", "input": "a b"})
    async with bench.http.delete(f"{bench.url}/_calls"):
        pass

    assert await bench.calls() == []
    assert (tmp_path / "calls.jsonl").read_text() == ""


async def test_the_command_says_ready_and_ends_on_sigterm(tmp_path: Path, bench: Bench) -> None:
    """SIGTERM ends the command with exit code 0 while a call hangs; deployments can be named."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.openai", "--port", "0", "--name", "n"),
        *("--record", str(tmp_path / "other.jsonl"), "--deployment", "mine=gpt-4o-2024-11-20"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    word, port = (await process.stdout.readline()).split()
    url = f"http://127.0.0.1:{int(port)}"
    status = await one_call(bench.http, url)
    async with bench.http.post(f"{url}/_faults", json={"hang": True}):
        pass
    hanging = asyncio.create_task(one_call(bench.http, url))
    await replace(bench, url=url).recorded(2)
    process.send_signal(signal.SIGTERM)

    assert await process.wait() == 0
    assert (word, status) == (b"ready", 200)
    with pytest.raises(aiohttp.ClientError):
        await hanging
