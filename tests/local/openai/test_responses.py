"""The stand-in stores responses as Azure does: fetched, cancelled, deleted and continued by id."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import (
    Response,
    ResponseFailedEvent,
    ResponseIncompleteEvent,
    ResponseStreamEvent,
)
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from local.openai.answers import Stamp
from local.openai.call import Call, Operation, StoredOperation, StoredTarget
from local.openai.stored import ResponseStore
from tests.support.openai_bench import API_VERSION, KEY, Bench, open_bench

# 2 words and 3 for the message: 5 input tokens; 5 + 5 % 11 words are answered.
QUESTION = "one two"
TOTAL_TOKENS = 15
BOTH_SHAPES = pytest.mark.parametrize("shape", ["classic", "v1"])
ITEMS: list[Any] = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": [{"type": "input_text", "text": "second"}]},
    {"type": "function_call_output", "call_id": "c", "output": "third", "id": "fc_mine"},
]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "calls.jsonl") as opened:
        yield opened


async def all_of(stream: AsyncIterator[ResponseStreamEvent]) -> list[ResponseStreamEvent]:
    return [event async for event in stream]


def total_tokens(response: Response) -> int | None:
    return response.usage.total_tokens if response.usage else None


async def status_of(client: AsyncOpenAI, response_id: str) -> int:
    try:
        await client.responses.retrieve(response_id)
    except openai.APIStatusError as exc:
        return exc.status_code
    return 200


def store_call(body: dict[str, object]) -> Call:
    return Call(operation=Operation.RESPONSES, deployment="d", model="m", body=body)


@BOTH_SHAPES
async def test_a_response_can_be_fetched(bench: Bench, shape: str) -> None:
    """GET by id returns the same JSON as the creation, and the call itself bills nothing."""
    client = bench.client(shape)
    created = await client.responses.create(model="gpt-4o", input=QUESTION)
    again = await client.responses.retrieve(created.id)

    assert again.to_dict() == created.to_dict()
    assert created.id.startswith("resp_")
    assert total_tokens(again) == TOTAL_TOKENS
    creation, retrieval = await bench.calls()
    assert creation["usage"]["total_tokens"] == TOTAL_TOKENS
    assert (retrieval["operation"], retrieval["status"]) == ("responses/get", 200)
    assert (retrieval["usage"], retrieval["deployment"]) == (None, None)


@BOTH_SHAPES
async def test_a_response_streams_again(bench: Bench, shape: str) -> None:
    """`stream=true` sends the events of its creation again; `starting_after` skips some."""
    client = bench.client(shape)
    created = await all_of(
        await client.responses.create(model="gpt-4o", input=QUESTION, stream=True)
    )
    assert created[0].type == "response.created"
    identity = created[0].response.id
    again = await all_of(await client.responses.retrieve(identity, stream=True))
    rest = await all_of(await client.responses.retrieve(identity, stream=True, starting_after=15))

    assert again == created
    assert rest == created[16:]
    last = rest[-1]
    assert last.type == "response.completed"
    assert total_tokens(last.response) == TOTAL_TOKENS
    assert [call["streaming"] for call in await bench.calls()] == [True, True, True]


@BOTH_SHAPES
async def test_a_deleted_response_is_gone(bench: Bench, shape: str) -> None:
    """DELETE confirms once; afterwards every call by that id is a 404."""
    client = bench.client(shape)
    created = await client.responses.create(model="gpt-4o", input=QUESTION)
    raw = await client.responses.with_raw_response.delete(created.id)

    assert raw.http_response.json() == {"id": created.id, "object": "response", "deleted": True}
    assert await status_of(client, created.id) == 404
    with pytest.raises(openai.NotFoundError) as caught:
        await client.responses.delete(created.id)
    assert caught.value.body == {
        "message": f"Response with id '{created.id}' not found.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_a_response_not_to_be_stored_is_forgotten(bench: Bench) -> None:
    """`store: false` answers as usual and stores nothing."""
    created = await bench.v1.responses.create(model="gpt-4o", input=QUESTION, store=False)

    assert total_tokens(created) == TOTAL_TOKENS
    assert await status_of(bench.v1, created.id) == 404


def test_the_oldest_response_is_evicted_first() -> None:
    """The store has a limit; one more evicts the oldest."""
    store = ResponseStore(most=2)
    for identity in ("a", "b", "c"):
        store.create(store_call({"input": "x"}), Stamp(identity=identity, created=1))

    statuses = [
        store.answer(
            StoredTarget(operation=StoredOperation.GET, response_id=f"resp_{name}", is_v1=True),
            {},
            now=1,
        ).status
        for name in ("a", "b", "c")
    ]
    assert statuses == [404, 200, 200]


@BOTH_SHAPES
async def test_a_background_response_completes_when_fetched(bench: Bench, shape: str) -> None:
    """It is queued without usage at first; the account bills it on creation."""
    client = bench.client(shape)
    created = await client.responses.create(model="gpt-4o", input=QUESTION, background=True)
    later = await client.responses.retrieve(created.id)

    assert (created.status, created.usage, created.output) == ("queued", None, [])
    assert (later.status, total_tokens(later)) == ("completed", TOTAL_TOKENS)
    assert len(later.output_text.split()) == 10
    creation, retrieval = await bench.calls()
    assert (creation["usage"]["total_tokens"], retrieval["usage"]) == (TOTAL_TOKENS, None)


async def test_a_background_stream_is_a_normal_stream(bench: Bench) -> None:
    """A caller that streams a background response waits for it, and sees its usage."""
    events = await all_of(
        await bench.v1.responses.create(
            model="gpt-4o", input=QUESTION, background=True, stream=True
        )
    )

    last = events[-1]
    assert last.type == "response.completed"
    assert (last.response.background, total_tokens(last.response)) == (True, TOTAL_TOKENS)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_background_response_runs_as_long_as_its_input_says(streaming: bool) -> None:
    """Until then it shows no usage, and can be cancelled; then it ends as any other."""
    store = ResponseStore()
    body = {"input": "Think RUNS12S", "background": True, "stream": streaming}
    for identity in ("a", "b"):
        store.create(store_call(body), Stamp(identity=identity, created=100))

    def seen(operation: StoredOperation, identity: str, now: int) -> tuple[str, bool]:
        target = StoredTarget(operation=operation, response_id=f"resp_{identity}", is_v1=True)
        shown = json.loads(b"".join(store.answer(target, {}, now=now).pieces))
        return shown["status"], shown["usage"] is not None

    assert [seen(StoredOperation.GET, "a", now) for now in (100, 111, 112)] == [
        ("in_progress", False),
        ("in_progress", False),
        ("completed", True),
    ]
    assert seen(StoredOperation.CANCEL, "a", 113) == ("completed", True)
    assert seen(StoredOperation.CANCEL, "b", 111) == ("cancelled", False)
    assert seen(StoredOperation.GET, "b", 120) == ("cancelled", False)


@BOTH_SHAPES
async def test_only_a_background_response_can_be_cancelled(bench: Bench, shape: str) -> None:
    """A queued one becomes cancelled and stays so; a synchronous one is a 400."""
    client = bench.client(shape)
    queued = await client.responses.create(model="gpt-4o", input=QUESTION, background=True)
    awaited = await client.responses.create(model="gpt-4o", input=QUESTION)
    cancelled = await client.responses.cancel(queued.id)
    again = await client.responses.cancel(queued.id)
    seen = await client.responses.retrieve(queued.id)

    assert (cancelled.status, cancelled.usage) == ("cancelled", None)
    assert (again.status, seen.status) == ("cancelled", "cancelled")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        await client.responses.cancel(awaited.id)
    with pytest.raises(openai.BadRequestError, match="Cannot stream a cancelled response"):
        await client.responses.retrieve(queued.id, stream=True)


async def test_a_response_that_has_ended_is_not_cancelled_any_more(bench: Bench) -> None:
    """Cancelling a background response after its end returns it unchanged, with its usage."""
    created = await bench.v1.responses.create(model="gpt-4o", input=QUESTION, background=True)
    await bench.v1.responses.retrieve(created.id)
    cancelled = await bench.v1.responses.cancel(created.id)

    assert (cancelled.status, total_tokens(cancelled)) == ("completed", TOTAL_TOKENS)


@BOTH_SHAPES
async def test_a_text_input_is_one_item(bench: Bench, shape: str) -> None:
    """The input of a response is listed as items; a text is one message of the user."""
    client = bench.client(shape)
    created = await client.responses.create(model="gpt-4o", input=QUESTION)
    page = await client.responses.input_items.list(created.id)

    [item] = page.data
    assert item.type == "message"
    assert item.role == "user"
    assert [part.to_dict() for part in item.content] == [{"type": "input_text", "text": QUESTION}]
    assert (await bench.calls())[-1]["operation"] == "responses/input_items"


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_input_items_come_in_pages(bench: Bench, limit: int, order: Any) -> None:
    """Pages of any size joined are the whole input, by default newest first."""
    created = await bench.v1.responses.create(model="gpt-4o", input=ITEMS)
    listed = bench.v1.responses.input_items.list(created.id, limit=limit, order=order)
    types = [item.type async for item in listed]

    expected = ["message", "message", "function_call_output"]
    assert types == (expected if order == "asc" else expected[::-1])


async def test_a_response_continues_another(bench: Bench) -> None:
    """A known previous response is named in the answer; an unknown one is a 400 with its code."""
    first = await bench.v1.responses.create(model="gpt-4o", input=QUESTION)
    second = await bench.v1.responses.create(
        model="gpt-4o", input=QUESTION, previous_response_id=first.id
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await bench.azure.responses.create(
            model="gpt-4o", input=QUESTION, previous_response_id="resp_x"
        )

    assert (first.previous_response_id, second.previous_response_id) == (None, first.id)
    assert total_tokens(second) == TOTAL_TOKENS
    assert caught.value.body == {
        "message": "Previous response with id 'resp_x' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }
    refused = (await bench.calls())[-1]
    assert (refused["status"], refused["usage"]) == (400, None)


@pytest.mark.parametrize(
    ("word", "status", "answered_words"),
    [("INCOMPLETE", "incomplete", 10), ("FAILSOON", "failed", 0)],
)
async def test_a_word_in_the_input_decides_the_end(
    bench: Bench, word: str, status: str, answered_words: int
) -> None:
    """Whole or streamed, a response that ends badly says so and still has its usage."""
    question = f"please {word}"
    whole = await bench.v1.responses.create(model="gpt-4o", input=question)
    events = await all_of(
        await bench.azure.responses.create(
            model="gpt-4o", input=[{"role": "user", "content": question}], stream=True
        )
    )

    assert (whole.status, total_tokens(whole)) == (status, TOTAL_TOKENS)
    assert (whole.error is not None) == (status == "failed")
    assert (whole.incomplete_details is not None) == (status == "incomplete")
    assert len(whole.output_text.split()) == answered_words
    last = events[-1]
    assert isinstance(last, ResponseIncompleteEvent | ResponseFailedEvent)
    assert last.type == f"response.{status}"
    assert (last.response.status, total_tokens(last.response)) == (status, TOTAL_TOKENS)
    assert [call["usage"]["total_tokens"] for call in await bench.calls()] == [15, 15]


@pytest.mark.parametrize("word", ["completed", "INCOMPLETE", "FAILSOON"])
async def test_every_answer_has_the_shape_of_the_sdks_types(bench: Bench, word: str) -> None:
    """The SDK reads leniently; its own types, read strictly, find nothing missing or wrong."""
    path = "/openai/v1/responses"
    body = {"model": "gpt-4o", "input": word, "background": True}
    _, created = await bench.post(path, body)
    _, seen = await bench.ask("GET", f"{path}/{created['id']}")
    _, items = await bench.ask("GET", f"{path}/{created['id']}/input_items")
    events = await all_of(await bench.v1.responses.create(model="gpt-4o", input=word, stream=True))

    assert Response.model_validate(created, strict=True).status == "queued"
    assert Response.model_validate(seen, strict=True).usage is not None
    assert len(ResponseItemList.model_validate(items, strict=True).data) == 1
    shape: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    assert [shape.validate_python(event.to_dict()).type for event in events] == [
        event.type for event in events
    ]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/openai/responses/resp_x", None, 404, "404"),
        ("GET", f"/openai/responses/resp_x?api-version={API_VERSION}", None, 404, None),
        ("GET", "/openai/v1/responses/resp_x/input_items", None, 404, None),
        ("POST", "/openai/v1/responses/resp_x/cancel", None, 404, None),
        ("DELETE", "/openai/v1/responses/resp_x", {}, 401, "401"),
        ("PUT", "/openai/v1/responses/resp_x", None, 404, "404"),
        ("POST", "/openai/v1/responses/resp_x", None, 404, "404"),
        ("GET", "/openai/v1/responses/resp_x/cancel", None, 404, "404"),
        ("DELETE", "/openai/v1/responses/resp_x/input_items", None, 404, "404"),
    ],
)
async def test_a_wrong_call_by_id_is_refused(
    bench: Bench,
    method: str,
    path: str,
    headers: dict[str, str] | None,
    status: int,
    code: str | None,
) -> None:
    """A classic address needs its api-version, a method its own address, every call the key."""
    answered, error = await bench.ask(method, path, headers=headers)

    [call] = await bench.calls()
    assert (answered, error["error"]["code"]) == (status, code)
    assert set(error["error"]) == {"code", "message", "type", "param"}
    assert (call["status"], call["usage"]) == (status, None)


async def test_faults_strike_calls_by_id(bench: Bench) -> None:
    """A fault without a deployment strikes them, one for a deployment lets them pass."""
    created = await bench.v1.responses.create(model="gpt-4o", input=QUESTION)
    await bench.fault(status=500, deployment="gpt-4o")
    await bench.fault(status=429, headers={"retry-after": "7"})
    await bench.fault(delay_ms=60_000)
    await bench.fault(hang=True)
    await bench.fault(reset=True)
    client = bench.azure
    with pytest.raises(openai.RateLimitError, match="Responses_Delete Operation"):
        await client.responses.delete(created.id)
    for _ in range(2):
        with pytest.raises(openai.APITimeoutError):
            await client.responses.delete(created.id, timeout=1)
    with pytest.raises(openai.APIConnectionError):
        await client.responses.delete(created.id)

    calls = await bench.recorded(5)
    assert [call["status"] for call in calls] == [200, 429, 200, None, None]
    assert {call["operation"] for call in calls[1:]} == {"responses/delete"}


async def test_a_struck_deletion_deletes_nothing(bench: Bench) -> None:
    """A fault that prevents a successful answer keeps the response."""
    created = await bench.v1.responses.create(model="gpt-4o", input=QUESTION)
    await bench.fault(status=503)
    await bench.fault(reset=True)
    for refusal in (openai.InternalServerError, openai.APIConnectionError):
        with pytest.raises(refusal):
            await bench.v1.responses.delete(created.id)

    assert await status_of(bench.v1, created.id) == 200


async def test_a_retrieval_can_leave_its_usage_out(bench: Bench) -> None:
    """`no_usage` hides it from one call only, whole or streamed."""
    created = await bench.v1.responses.create(model="gpt-4o", input=QUESTION)
    await bench.fault(no_usage=True, count=2)
    hidden = await bench.v1.responses.retrieve(created.id)
    streamed = await all_of(await bench.v1.responses.retrieve(created.id, stream=True))
    shown = await bench.v1.responses.retrieve(created.id)

    assert streamed[-1].type == "response.completed"
    assert (hidden.usage, streamed[-1].response.usage) == (None, None)
    assert total_tokens(shown) == TOTAL_TOKENS


async def test_the_key_is_accepted_as_a_bearer_token_by_id(bench: Bench) -> None:
    """v1 accepts the plain client's key as a bearer token; classic addresses do not."""
    bearer = {"authorization": f"Bearer {KEY}"}
    v1, _ = await bench.ask("GET", "/openai/v1/responses/resp_x", headers=bearer)
    path = f"/openai/responses/resp_x?api-version={API_VERSION}"
    classic, _ = await bench.ask("GET", path, headers=bearer)

    assert (v1, classic) == (404, 401)
