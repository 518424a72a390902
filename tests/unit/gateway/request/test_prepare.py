"""A body is refused where it could be read as another call than the one that is metered."""

import pytest

from meter.gateway.http import Answer
from tests.fakes.gateway import json_answer
from tests.support.gateway import (
    CHAT_PATH,
    SERVED,
    V1_RESPONSES_PATH,
    Door,
    door,
    error_of,
    headers_of,
)

IMAGES_PATH = "/openai/deployments/gpt/images/generations"


def ready() -> Door:
    return door(json_answer(200, SERVED))


async def sent(made: Door, body: bytes, path: str = CHAT_PATH) -> Answer:
    answer = await made.call(body, path=path, query="" if "/v1/" in path else "api-version=1")
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize("value", [b"1", b'"true"', b"[]", b"{}", b"0"])
async def test_a_responses_background_is_a_boolean(value: bytes) -> None:
    """A backend that takes it for true would make a response that is metered by nobody."""
    made = ready()

    answer = await sent(made, b'{"model":"gpt","background":%b}' % value, V1_RESPONSES_PATH)

    assert answer.status == 400
    assert "`background` must be true or false" in str(error_of(answer)["message"])
    assert made.upstream.requests == []


@pytest.mark.parametrize("value", [b"null", b"false"])
async def test_a_background_that_is_not_asked_for_is_none(value: bytes) -> None:
    """SDKs send null for what is not set."""
    answer = await sent(ready(), b'{"model":"gpt","background":%b}' % value, V1_RESPONSES_PATH)

    assert answer.status == 200


async def test_an_images_background_is_a_word() -> None:
    """Another member of the same name."""
    made = ready()

    answer = await sent(made, b'{"prompt":"a cat","background":"transparent"}', IMAGES_PATH)

    assert (answer.status, len(made.upstream.requests)) == (200, 1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt","model":"gpt-expensive","messages":[]}',
        b'{"model":"gpt","mod\\u0065l":"gpt-expensive","messages":[]}',
        b'{"Model":"gpt-expensive","model":"gpt","messages":[]}',
        b'{"stream":true,"stream":false,"messages":[]}',
        b'{"stream":1,"messages":[]}',
        b'{"stream":true,"stream_options":{},"Stream_Options":{},"messages":[]}',
        b'{"stream":true,"stream_options":{"include_usage":true,"include_usage":false}}',
    ],
)
async def test_what_two_parsers_read_differently_reaches_no_backend(body: bytes) -> None:
    """400, no event, nothing held."""
    made = ready()

    answer = await sent(made, body)

    assert (answer.status, headers_of(answer)["x-meter-error"]) == (400, "bad_request")
    assert (made.upstream.requests, made.sink.events, made.is_idle) == ([], [], True)


async def test_a_stream_that_is_null_is_none() -> None:
    """As if it were left out; the body goes out as it came."""
    made, body = ready(), b'{"stream":null,"stream_options":null,"messages":[]}'

    answer = await sent(made, body)

    assert (answer.status, made.upstream.bodies) == (200, [body])
