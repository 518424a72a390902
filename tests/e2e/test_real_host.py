"""Behind Microsoft's proxy: failures in a stream and refusals arrive, whatever the caller is sending."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.running import RunningStack, new_subject, run_stack

CHAT = "/openai/v1/chat/completions"
RESPONSES = "/openai/v1/responses"
BODIES = {
    CHAT: {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
    RESPONSES: {"model": "gpt-4o", "stream": True, "input": "hi"},
}
CALLERS, AT_ONCE = 500, 25
LARGE = 50_000_000


@pytest.fixture(scope="module")
def stack(proxied_stack: RunningStack) -> RunningStack:
    """The stack behind the proxy."""
    return proxied_stack


@pytest.mark.parametrize(("path", "bytes_before"), [(CHAT, 700), (RESPONSES, 1_200)])
def test_every_caller_hears_that_its_stream_failed(
    stack: RunningStack, path: str, bytes_before: int
) -> None:
    """The error in its API's own form, then a broken connection: 500 of 500 get both."""
    token = stack.token(new_subject("heard"))
    stack.fault({"cut_after_bytes": bytes_before, "count": None})
    try:
        asyncio.run(_listen(stack.url + path, token, path, AT_ONCE))  # a cold proxy is slower
        heard = asyncio.run(_listen(stack.url + path, token, path, CALLERS))
    finally:
        stack.clear_faults()

    assert all(was_cut for _, was_cut in heard)
    events = [json.loads(data.rstrip().rpartition(b"data: ")[2]) for data, _ in heard]
    assert len(events) == CALLERS
    if path == CHAT:
        assert {event["error"]["code"] for event in events} == {"upstream_cut"}
        return
    assert {event["type"] for event in events} == {"response.failed"}
    assert {event["response"]["error"]["code"] for event in events} == {"upstream_cut"}
    assert all(event["response"]["id"].startswith("resp_") for event in events)
    assert all(event["sequence_number"] > 0 for event in events)


async def _listen(url: str, token: str, path: str, callers: int) -> list[tuple[bytes, bool]]:
    limit = asyncio.Semaphore(AT_ONCE)
    headers = {"authorization": f"Bearer {token}"}

    async def one(session: aiohttp.ClientSession) -> tuple[bytes, bool]:
        received = b""
        async with limit:
            try:
                async with session.post(url, json=BODIES[path], headers=headers) as answer:
                    async for part in answer.content.iter_any():
                        received += part
            except aiohttp.ClientPayloadError:
                return received, True
        return received, False

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(one(session) for _ in range(callers)))


@pytest.mark.parametrize(
    ("size", "pauses"), [(1_000, 0), (1_000, 4), (200_000, 4), (LARGE, 0), (LARGE, 4)]
)
def test_a_refusal_arrives_while_the_body_is_being_sent(
    stack: RunningStack, size: int, pauses: int
) -> None:
    """Whole, as JSON and under its own status: the proxy would make a 500 of a closed connection.

    Whether the body has a length, comes in chunks, or waits to be asked for; three kinds at once.
    """
    refusals = {
        401: (CHAT, "not-a-token"),
        404: ("/openai/v1/nothing", stack.token(new_subject("refused"))),
        413: (CHAT, stack.token(new_subject("refused"))),
    }
    wanted = [status for status in refusals if status != 413 or size == LARGE]
    asked = [refusals[status] for status in wanted]

    async def of_all_kinds() -> list[list[tuple[int, Any]]]:
        return await asyncio.gather(
            *(_upload(stack, asked, kind, size, pauses) for kind in ("length", "chunked", "expect"))
        )

    length, chunked, expect = asyncio.run(of_all_kinds())

    assert [status for status, _ in length] == wanted
    assert [status for status, _ in chunked] == wanted
    assert [status for status, _ in expect] == wanted
    for status, document in (*length, *chunked, *expect):
        assert set(document["error"]) >= {"code", "message"}, status


@pytest.fixture(scope="module")
def full_stack(
    tmp_path_factory: pytest.TempPathFactory, yarp_front: Path
) -> Iterator[RunningStack]:
    """A stack behind the proxy with places for two calls, one for each subject, and a needed role."""
    settings = {
        "METER_MAX_CONCURRENT_CALLS": "2",
        "METER_SUBJECT_SHARE_PERCENT": "50",
        "METER_REQUIRED_ROLES": "Meter.Call",
        "METER_ON_DISCONNECT": "cancel",
    }
    state = tmp_path_factory.mktemp("full")
    with run_stack(state, "--behind", str(yarp_front), settings=settings) as running:
        yield running


def test_refusals_for_want_of_a_role_or_a_place_arrive_too(full_stack: RunningStack) -> None:
    """403, 429 for a subject that has its share, and 503 for any when all places are taken."""
    heard = asyncio.run(_upload_to_full(full_stack))

    assert [status for status, _ in heard] == [403, 429] * 4 + [503] * 4
    assert all(set(document["error"]) >= {"code", "message"} for _, document in heard)


async def _upload_to_full(stack: RunningStack) -> list[tuple[int, Any]]:
    """Uploads of several kinds while one call takes a place, then while two do."""
    one, two, three = (stack.token(new_subject("place"), "--role", "Meter.Call") for _ in range(3))
    without_role = stack.token(new_subject("no-role"))
    kinds = [
        ("length", 1_000, 4),
        ("chunked", LARGE, 0),
        ("chunked", LARGE, 4),
        ("expect", LARGE, 0),
    ]
    stack.fault({"chunk_delay_ms": 5_000, "count": None})
    async with aiohttp.ClientSession() as session:

        async def hold(token: str, is_held: asyncio.Event) -> None:
            headers = {"authorization": f"Bearer {token}"}
            async with session.post(stack.url + CHAT, json=BODIES[CHAT], headers=headers) as answer:
                is_held.set()
                await answer.read()

        heard: list[tuple[int, Any]] = []
        held = [asyncio.Event(), asyncio.Event()]
        holding = [asyncio.create_task(hold(one, held[0]))]
        await held[0].wait()
        refused = [(CHAT, without_role), (CHAT, one)]
        for each in await asyncio.gather(*(_upload(stack, refused, *kind) for kind in kinds)):
            heard += each
        holding.append(asyncio.create_task(hold(two, held[1])))
        await held[1].wait()
        for each in await asyncio.gather(
            *(_upload(stack, [(CHAT, three)], *kind) for kind in kinds)
        ):
            heard += each
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)
    return heard


async def _upload(
    stack: RunningStack, asked: list[tuple[str, str]], kind: str, size: int, pauses: int
) -> list[tuple[int, Any]]:
    length = {"content-length": str(size)} if kind != "chunked" else {}
    tries = 5 * max(1, pauses)

    async def parts() -> AsyncIterator[bytes]:
        for part in range(tries):
            yield b"x" * (size // tries + (size % tries if part == 0 else 0))
            if pauses:
                await asyncio.sleep(0.1)

    async def one(session: aiohttp.ClientSession, path: str, token: str) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json", **length}
        async with session.post(
            stack.url + path, data=parts(), headers=headers, expect100=kind == "expect"
        ) as answer:
            return answer.status, await answer.json()

    async with aiohttp.ClientSession() as session:
        return list(await asyncio.gather(*[one(session, path, token) for path, token in asked]))


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1%2Fresponses",
        "/openai/v1%252Fresponses",
        "/openai/v1/responses/a%2Fb",
        "/openai/v1/responses/a%252Fb",
        "/openai/v1/responses/..%2f..%2fmodels",
        "/openai/v1/responses/%252e%252e",
        "/openai/v1/responses/%E9",
        "//openai/v1/responses",
        "/openai/v1///responses",
        "/openai/deployments/gpt-4o%2F..%2Fx/chat/completions",
    ],
)
def test_an_encoded_path_is_refused_as_the_host_rewrites_it(stack: RunningStack, path: str) -> None:
    """`%2F` becomes `%252F` there; neither is decoded again."""
    token = stack.token(new_subject("path"))
    status, _ = asyncio.run(_raw(stack, f"GET {path} HTTP/1.1", f"authorization: Bearer {token}"))

    assert status == 404


@pytest.mark.parametrize("second", ["the same", "another", "none"])
def test_two_credentials_are_refused_although_they_arrive_as_one(
    stack: RunningStack, second: str
) -> None:
    """The host joins them: "Bearer a, Bearer b". One is let in."""
    token = stack.token(new_subject("joined"))
    others = {"the same": token, "another": stack.token(new_subject("joined"))}
    sent = [f"authorization: Bearer {each}" for each in (token, others.get(second)) if each]

    status, _ = asyncio.run(_raw(stack, "GET /openai/v1/models HTTP/1.1", *sent))

    assert status == (200 if second == "none" else 401)


async def _raw(stack: RunningStack, line: str, *headers: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(stack.url).port)
    lines = [line, "host: x", *headers, "connection: close", "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    return int(answer[9:12]), answer
