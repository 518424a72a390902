"""The front door from request to answer, on fakes: what callers get."""

import json
from copy import replace

import pytest

from meter.errors import AnswerCut, TooLarge, UpstreamBroken, UpstreamTimeout
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import Outcome
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeRequestBody,
    FakeUpstream,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    CHAT_BODY,
    CHAT_PATH,
    DONE_FRAME,
    RULES,
    SERVED,
    STREAM_BODY,
    TEXT_FRAME,
    USAGE_FRAME,
    Door,
    backend,
    bearer,
    door,
    error_of,
    headers_of,
    token,
)

REFUSAL = b'{"error":{"code":"content_filter","message":"filtered","innererror":{}}}'


async def test_a_served_call_gets_the_backends_bytes_and_headers() -> None:
    """Byte for byte, with the event's id and the total beside the backend's own headers."""
    made = door(json_answer(200, SERVED, ("x-request-id", "r1"), ("x-ms-region", "eu")))

    answer = await made.answer()

    assert (answer.status, answer.body) == (200, SERVED)
    assert answer.headers == (
        ("content-type", "application/json"),
        ("x-request-id", "r1"),
        ("total-tokens", "46"),
        ("x-meter-event-id", str(made.sink.events[0].id)),
        ("cache-control", "no-store"),
    )


async def test_a_backends_name_is_shown_only_when_that_is_set() -> None:
    """`METER_EXPOSE_BACKEND`."""
    region = ("x-ms-region", "Sweden Central")
    shown = await door(json_answer(200, SERVED, region), exposes_backend=True).answer()
    hidden = await door(json_answer(200, SERVED, region)).answer()

    assert headers_of(shown)["x-meter-backend"] == "a"
    assert headers_of(shown)["x-ms-region"] == "Sweden Central"
    assert not {"x-meter-backend", "x-ms-region"} & headers_of(hidden).keys()


async def test_an_answer_without_usage_has_no_total() -> None:
    """Nothing is invented."""
    answer = await door(json_answer(200, b"{}")).answer()

    assert "total-tokens" not in headers_of(answer)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
async def test_a_backends_refusal_is_passed_on_unchanged(status: int) -> None:
    """Its body and its headers, so that the SDK raises what Azure meant."""
    answer = await door(json_answer(status, REFUSAL, ("apim-request-id", "1"))).answer()

    assert (answer.status, answer.body) == (status, REFUSAL)
    assert headers_of(answer)["apim-request-id"] == "1"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer "),),
        (("authorization", "Basic YTpi"),),
        (("authorization", "Bearer nonsense"),),
        (("api-key", "0123456789abcdef"),),
        (("authorization", "Bearer a"), ("authorization", "Bearer b")),
        (*bearer(), *bearer()),
    ],
    ids=str,
)
async def test_without_a_valid_token_nobody_gets_in(headers: tuple[tuple[str, str], ...]) -> None:
    """401 in the shape the SDK reads, with a challenge; an error in it is about a token (RFC 6750)."""
    made = door()
    is_without = headers[0][1] in {"", "Bearer ", "Basic YTpi"} if headers else True

    answer = await made.call(headers=headers)

    assert answer.status == 401
    challenge = 'realm="aoai-meter"' if is_without else 'error="invalid_token"'
    assert headers_of(answer)["www-authenticate"] == f"Bearer {challenge}"
    error = error_of(answer)
    assert str(error.pop("message")).startswith("Unauthorized. ")
    assert error == {"code": "401", "type": "invalid_request_error", "param": None}
    assert (made.sink.events, made.upstream.requests) == ([], [])


@pytest.mark.parametrize(
    "headers",
    [
        (("authorization", f"Bearer {token()}"),),
        (("authorization", f"bearer  {token()} "),),
        (("api-key", token()),),
        (("api-key", token()), ("authorization", f"Bearer {token()}")),
    ],
    ids=["bearer", "lower case", "api-key", "both"],
)
async def test_a_token_may_come_in_either_header(headers: tuple[tuple[str, str], ...]) -> None:
    """Some tools can set `api-key` only."""
    answer = await door(json_answer(200, SERVED)).call(headers=headers)

    assert answer.status == 200


async def test_a_caller_without_the_permission_is_forbidden() -> None:
    """403, and no event."""
    made = door(rules=replace(RULES, allowed_apps=frozenset({"other"})))

    answer = await made.call()

    assert (answer.status, error_of(answer)["code"]) == (403, "403")
    assert "www-authenticate" not in headers_of(answer)
    assert made.sink.events == []


async def test_without_keys_no_token_can_be_judged() -> None:
    """503, which clients retry; not 401, which they would take for their own fault."""
    made = door()
    made.keys.is_down = True

    answer = await made.call()

    assert (answer.status, error_of(answer)["code"]) == (503, "ServiceUnavailable")


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/openai/files", "POST", 404, "404"),
        ("/openai///responses", "POST", 404, "404"),
        ("/openai/deployments/other/chat/completions", "POST", 404, "DeploymentNotFound"),
        ("/openai/deployments/gpt/chat/completions", "GET", 405, "MethodNotAllowed"),
    ],
)
async def test_what_is_not_served_is_refused_without_an_event(
    path: str, method: str, status: int, code: str
) -> None:
    """In AOAI's error shape, and without asking a backend."""
    made = door()

    answer = await made.call(path=path, method=method)

    assert (answer.status, error_of(answer)["code"]) == (status, code)
    assert (made.sink.events, made.upstream.requests) == ([], [])


async def test_a_method_that_is_not_allowed_names_the_one_that_is() -> None:
    """RFC 9110 section 15.5.6."""
    assert headers_of(await door().call(method="GET"))["allow"] == "POST, OPTIONS"


async def test_a_path_is_not_told_apart_without_a_token() -> None:
    """Strangers learn nothing of what is served."""
    assert (await door().call(path="/openai/files", headers=())).status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no json", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"model":null}', 400),
        (b'{"model":7}', 404),
        (b'{"model":"../gpt"}', 404),
        (b'{"model":"other"}', 404),
    ],
)
async def test_a_body_must_name_a_deployment_that_is_served(body: bytes, status: int) -> None:
    """Where the path names none."""
    made = door()

    answer = await made.call(body, path="/openai/v1/chat/completions", query="")

    assert (answer.status, made.sink.events) == (status, [])


async def test_a_body_over_the_limit_is_refused() -> None:
    """413."""
    too_large = TooLarge("The request body is larger than 10 bytes.")
    answer = await door().call(FakeRequestBody([b"{", too_large]))

    assert (answer.status, error_of(answer)["code"]) == (413, "RequestTooLarge")


@pytest.mark.parametrize("path", ["/openai/v1/chat/completions", "/openai/v1/embeddings"])
async def test_the_v1_paths_take_the_deployment_from_the_body(path: str) -> None:
    """And the backend gets its own name for it, all else as it was sent."""
    made = Door(FakeUpstream({"a": [json_answer(200, SERVED)]}), [backend(own="gpt-eu")])

    await made.call(b'{ "input" : "x", "model": "gpt" }', path=path, query="")

    assert made.upstream.requests[0].url == f"https://a.example{path}"
    assert made.upstream.requests[0].body == b'{ "input" : "x", "model": "gpt-eu" }'


async def test_a_body_that_need_not_change_is_sent_as_it_came() -> None:
    """Byte for byte."""
    made = door(json_answer(200, SERVED))

    await made.call(CHAT_BODY)

    assert made.upstream.requests[0].body == CHAT_BODY


async def test_when_all_throttle_the_caller_is_told_when_to_come_back() -> None:
    """429 in seconds, rounded up, and in milliseconds."""
    made = door(json_answer(429, b"{}", ("retry-after-ms", "2500")))

    answer = await made.call()

    assert (answer.status, error_of(answer)["type"]) == (429, "rate_limit_error")
    assert headers_of(answer)["retry-after"] == "3"
    assert headers_of(answer)["retry-after-ms"] == "3000"


async def test_a_backend_that_does_not_answer_is_a_gateway_timeout() -> None:
    """504 in AOAI's shape, with the id of the event it made."""
    made = door(UpstreamTimeout("a"))

    answer = await made.call()

    assert (answer.status, error_of(answer)["code"]) == (504, "GatewayTimeout")
    assert headers_of(answer)["x-meter-event-id"] == str(made.sink.events[0].id)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (STREAM_BODY, b'{"stream_options":{"include_usage": true},' + STREAM_BODY[1:]),
        (
            b'{"stream":true,"stream_options":{"include_usage":false}}',
            b'{"stream":true,"stream_options":{"include_usage": true}}',
        ),
    ],
)
async def test_a_stream_is_asked_for_its_usage_which_the_caller_does_not_see(
    body: bytes, sent: bytes
) -> None:
    """The caller did not ask, or asked not to; it is metered all the same."""
    made, caller = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME)), FakeCaller()

    answer = await made.stream(body)
    await answer.relay.run(caller)

    assert made.upstream.requests[0].body == sent
    assert caller.received == TEXT_FRAME + DONE_FRAME
    assert made.sink.events[0].usage.total_tokens == 7


async def test_a_stream_that_arrives_at_once_is_answered_whole() -> None:
    """The same bytes, headers and event: nothing of it is to be waited for."""
    source = stream_answer(TEXT_FRAME + USAGE_FRAME + DONE_FRAME)
    source.has_arrived = True
    made = door(source)

    answer = await made.answer(STREAM_BODY)

    assert (answer.body, answer.is_events) == (TEXT_FRAME + DONE_FRAME, True)
    assert "total-tokens" not in headers_of(answer)
    event = made.sink.events[0]
    assert (event.streaming, event.usage.total_tokens, event.outcome) == (True, 7, Outcome.SERVED)
    assert (made.is_idle, source.times_closed) == (True, 1)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", SERVED),
        ("application/json", b""),
        ("application/json", SERVED + b" " * 2_000),
        ("audio/mpeg", b"sound"),
        ("application/json", TEXT_FRAME + USAGE_FRAME + DONE_FRAME),
        ("text/event-stream", TEXT_FRAME + DONE_FRAME),
        ("text/event-stream", TEXT_FRAME + b'data: {"error":{"code":"500"}}\n\n'),
        ("text/event-stream", b""),
    ],
)
@pytest.mark.parametrize("asked", [CHAT_BODY, STREAM_BODY])
async def test_an_answer_that_is_there_with_its_head_is_told_as_any_other(
    kind: str, body: bytes, asked: bytes
) -> None:
    """Whatever it is, and however long: its caller gets the same, and its event is the same."""
    told = []
    for has_arrived in (False, True):
        source, caller, is_cut = (
            FakeAnswer(200, (("content-type", kind),), [body]),
            FakeCaller(),
            False,
        )
        source.has_arrived = has_arrived
        made = door(source, max_buffered_bytes=2_000)
        answer = await made.call(asked)
        if isinstance(answer, StreamingAnswer):
            try:
                await answer.relay.run(caller)
            except AnswerCut:
                is_cut = True
        got = answer.body if isinstance(answer, Answer) else caller.received
        told.append((answer.status, answer.headers, got, is_cut, made.sink.events, made.is_idle))

    assert told[0] == told[1]


async def test_a_stream_that_nobody_asked_for_is_relayed() -> None:
    """Also when it arrives at once: whoever asks again is not given an event stream."""
    source = stream_answer(TEXT_FRAME + USAGE_FRAME + DONE_FRAME)
    source.has_arrived = True

    assert isinstance(await door(source).call(), StreamingAnswer)


async def test_a_caller_that_asks_for_usage_gets_it() -> None:
    """Then its body and its stream are left as they are."""
    body = b'{"stream":true,"stream_options":{"include_usage":true}}'
    made, caller = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME)), FakeCaller()

    answer = await made.stream(body)
    await answer.relay.run(caller)

    assert made.upstream.requests[0].body == body
    assert caller.received == TEXT_FRAME + USAGE_FRAME + DONE_FRAME


async def test_a_responses_stream_is_not_asked_for_usage() -> None:
    """It reports by itself and refuses the option."""
    done = b'data: {"type":"response.completed","response":{"usage":{"total_tokens":5}}}\n\n'
    made, caller = door(stream_answer(done)), FakeCaller()

    answer = await made.call(STREAM_BODY, path="/openai/responses")
    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(caller)

    assert made.upstream.requests[0].body == STREAM_BODY
    assert (caller.received, made.sink.events[0].usage.total_tokens) == (done, 5)


async def test_a_streams_head_comes_before_its_end() -> None:
    """Its total cannot be known yet; its event's id can."""
    made = door(stream_answer(DONE_FRAME, headers=(("x-request-id", "r1"),)))

    answer = await made.stream()

    assert answer.status == 200
    assert [name for name, _ in answer.headers] == [
        "content-type",
        "x-request-id",
        "x-meter-event-id",
        "cache-control",
    ]


async def test_a_refused_stream_is_a_whole_answer() -> None:
    """A content filter's refusal comes as JSON."""
    answer = await door(json_answer(400, REFUSAL)).call(STREAM_BODY)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (400, REFUSAL)


async def test_a_cut_stream_breaks_off() -> None:
    """After the error frame."""
    made, caller = door(stream_answer(TEXT_FRAME, UpstreamBroken("a"))), FakeCaller()
    answer = await made.stream()

    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    error = json.loads(caller.received.removeprefix(TEXT_FRAME).removeprefix(b"data: "))
    assert error["error"]["code"] == "upstream_cut"


async def test_another_tenants_token_is_no_token() -> None:
    """401."""
    made = door(rules=replace(RULES, allowed_tenants=frozenset({"tenant-2"})))

    assert (await made.call()).status == 401


COMPACTED = b"""{"id":"resp_2","object":"response.compaction","output":[],
"usage":{"input_tokens":40,"output_tokens":6,"total_tokens":46}}"""


@pytest.mark.parametrize("path", ["/openai/responses/compact", "/openai/v1/responses/compact"])
async def test_compaction_is_metered_as_the_response_it_is(path: str) -> None:
    """Its answer has usage; its body names the deployment, and perhaps the response it builds on."""
    made = door(json_answer(200, COMPACTED))

    answer = await made.call(b'{"model":"gpt","previous_response_id":"resp_1"}', path=path)

    event = made.sink.events[0]
    assert (answer.status, headers_of(answer)["total-tokens"]) == (200, "46")
    assert (event.operation, event.usage.total_tokens) == ("responses/compact", 46)
    assert made.upstream.requests[0].url == f"https://a.example{path}?api-version=2024-10-21"


async def test_counting_input_tokens_costs_nothing() -> None:
    """Azure charges nothing for it, whatever numbers its answer holds."""
    counted = b'{"object":"response.input_tokens","input_tokens":11,"usage":{"total_tokens":11}}'
    made = door(json_answer(200, counted))

    answer = await made.call(b'{"model":"gpt"}', path="/openai/v1/responses/input_tokens")

    event = made.sink.events[0]
    assert (answer.status, headers_of(answer)["total-tokens"]) == (200, "0")
    assert (event.operation, event.usage.total_tokens) == ("responses/input_tokens", 0)


@pytest.mark.parametrize("query", ["", "api_version=2024-10-21"])
async def test_without_an_api_version_a_deployments_address_is_not_found(query: str) -> None:
    """Azure would say `Resource not found` alone; here the 404 names the reason, and nothing is asked."""
    made = door(json_answer(200, SERVED))

    answer = await made.call(b'{"model":"gpt"}', path=CHAT_PATH, query=query)

    assert (answer.status, error_of(answer)["code"]) == (404, "404")
    assert "`api-version`" in str(error_of(answer)["message"])
    assert (made.upstream.requests, made.sink.events) == ([], [])
