"""A fault makes the stand-in compress answers without a request for compression."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.openai_bench import KEY, Bench, open_bench

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "count my tokens please"}]
CHAT = {"model": "gpt-4o", "messages": MESSAGES}
PLAIN_HEADERS = {"api-key": KEY, "accept-encoding": "identity"}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "calls.jsonl") as opened:
        yield opened


@pytest.fixture
async def raw() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that does not decompress bodies."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def pieces_of(
    raw: aiohttp.ClientSession, url: str, body: dict[str, Any]
) -> tuple[aiohttp.ClientResponse, list[bytes]]:
    async with raw.post(url, json=body, headers=PLAIN_HEADERS) as answer:
        return answer, [piece async for piece, _ in answer.content.iter_chunks()]


async def read_into(received: bytearray, answer: aiohttp.ClientResponse) -> None:
    async for piece in answer.content.iter_any():
        received += piece


@pytest.mark.parametrize("asks", [{}, {"stream": True}])
async def test_an_answer_is_gzipped_without_a_request_for_it(
    bench: Bench, raw: aiohttp.ClientSession, asks: dict[str, object]
) -> None:
    """Whole or streamed, the header says so and the body decompresses to the plain answer."""
    url = f"{bench.url}/openai/v1/chat/completions"
    _, plain = await pieces_of(raw, url, CHAT | asks)
    await bench.fault(gzip=True)
    answer, packed = await pieces_of(raw, url, CHAT | asks)

    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(b"".join(packed)).count(b"\n\n") == b"".join(plain).count(b"\n\n")
    assert b'"finish_reason":"stop"' in gzip.decompress(b"".join(packed))
    assert [call["usage"]["total_tokens"] for call in await bench.calls()] == [19, 19]


async def test_every_frame_can_be_read_when_it_arrives(
    bench: Bench, raw: aiohttp.ClientSession
) -> None:
    """The compressed stream is flushed after each frame, so that a live reader does not wait."""
    await bench.fault(gzip=True, chunk_delay_ms=2)
    body = CHAT | {"stream": True}
    _, packed = await pieces_of(raw, f"{bench.url}/openai/v1/chat/completions", body)

    unzip = zlib.decompressobj(wbits=31)
    frames = [unzip.decompress(piece) for piece in packed]
    assert len(frames) == 16
    assert all(frame.endswith(b"\n\n") for frame in frames)
    assert unzip.eof


async def test_the_sdk_reads_a_gzipped_stream(bench: Bench) -> None:
    """The SDK's transport decompresses by the header."""
    await bench.fault(gzip=True)
    stream = await bench.azure.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in stream][-1]

    assert last.usage is not None
    assert last.usage.total_tokens == 19


async def test_errors_and_binary_bodies_are_gzipped_too(
    bench: Bench, raw: aiohttp.ClientSession
) -> None:
    """Answers with a body are compressed; those without have no such header."""
    speech = {"model": "tts", "input": "a b", "voice": "alloy"}
    url = f"{bench.url}/openai/v1/audio/speech"
    for fault in ({}, {"status": 503}, {"status": 204}):
        await bench.fault(gzip=True, **fault)
    _, packed = await pieces_of(raw, url, speech)
    _, refused = await pieces_of(raw, url, speech)
    empty, nothing = await pieces_of(raw, url, speech)

    assert len(gzip.decompress(b"".join(packed))) == 8192
    assert json.loads(gzip.decompress(b"".join(refused)))["error"]["code"] == "503"
    assert (empty.status, nothing) == (204, [])
    assert "content-encoding" not in empty.headers


async def test_a_cut_counts_compressed_bytes(bench: Bench, raw: aiohttp.ClientSession) -> None:
    """`cut_after_bytes` counts bytes on the wire, and truncates the gzip data."""
    await bench.fault(gzip=True, cut_after_bytes=300)
    body = CHAT | {"stream": True}
    received = bytearray()
    url = f"{bench.url}/openai/v1/chat/completions"
    async with raw.post(url, json=body, headers=PLAIN_HEADERS) as answer:
        with pytest.raises(aiohttp.ClientError):
            await read_into(received, answer)

    assert len(received) == 300
    with pytest.raises(EOFError):
        gzip.decompress(bytes(received))
