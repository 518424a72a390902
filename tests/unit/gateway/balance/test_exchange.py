"""What one backend's answer means for the call, and what the caller gets when none is left."""

import asyncio
import json
import logging
import re

import pytest

from meter.errors import UpstreamTimeout, UpstreamUnreachable
from meter.gateway.answer.begin import StreamedAnswer, WholeAnswer
from meter.gateway.balance.demand import NO_DEMAND
from meter.gateway.balance.verdict import Fault
from meter.gateway.http import error_answer
from tests.fakes.gateway import FakeAnswer, json_answer, stream_answer
from tests.unit.gateway.balance.test_forward import Bench, Scripted, ok

OUTPUT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
THROTTLE = (
    b'data: {"error":{"code":"too_many_requests","message":"Please retry after 7 seconds."}}\n\n'
)
NO_DEPLOYMENT = {
    "classic": json_answer(404, b'{"error":{"code":"DeploymentNotFound","message":"No."}}'),
    "v1": json_answer(
        400,
        b'{"type":"error","error":{"type":"invalid_request_error","code":null,"message":"Could not '
        b'find an existing deployment to match the model in the request."}}',
    ),
    "inner": json_answer(
        400, b'{"error":{"code":"400","innererror":{"code":"DeploymentNotFound"}}}'
    ),
    "gone": json_answer(410, b'{"error":{"code":"DeploymentNotFound"}}'),
    "text": FakeAnswer(
        404,
        (("content-type", "text/plain"),),
        [b"The API deployment for this resource does not exist.\n"],
    ),
    "its own name": json_answer(
        404, b'{"error":{"code":"model_not_found","message":"The model `gpt` does not exist"}}'
    ),
    "stream": stream_answer(b'data: {"error":{"code":"DeploymentNotFound"}}\n\n'),
}


def may_call(bench: Bench, name: str, *, after: float = 0.0) -> bool:
    backend = next(each for each in bench.pool.backends if each.name == name)
    now = bench.clock.monotonic() + after
    return bench.pool.target(backend, "gpt").may_call(NO_DEMAND, now)


async def error(bench: Bench) -> tuple[int, dict[str, object], dict[str, str]]:
    """The status, the error and the headers that the caller gets."""
    answer = error_answer(await bench.refusal())
    return answer.status, json.loads(answer.body)["error"], dict(answer.headers)


@pytest.mark.parametrize(
    ("first", "fault", "status"),
    [
        (THROTTLE, Fault.THROTTLED, 429),
        (b": wait\n\n" + THROTTLE, Fault.THROTTLED, 429),
        (b"event: error\ndata: busy\n\n", Fault.ERROR, 500),
        (b'data: {"statusCode":503,"message":"x"}\n\n', Fault.ERROR, 503),
        (b'data: {"error":{"code":"invalid_api_key"}}\n\n', Fault.CREDENTIALS, 401),
        (b'data: {"type":"response.failed","response":{"error":null}}\n\n', Fault.ERROR, 500),
        (b'data: {"error":429}\n\n', Fault.THROTTLED, 429),
        (b'data: {"error":[{"code":429}]}\n\n', Fault.THROTTLED, 429),
        (b'data: [{"error":{"code":"503"}}]\n\n', Fault.ERROR, 503),
        (b'data: {"Error":{"Code":"TooManyRequests"}}\n\n', Fault.THROTTLED, 429),
        (b'data: {"errors":[{"message":"rate limit"}]}\n\n', Fault.THROTTLED, 429),
        (
            b'data: {"fault":{"faultstring":"x","detail":{"errorcode":"a.ratelimit.B"}}}\n\n',
            Fault.THROTTLED,
            429,
        ),
        (b'data: {"type":"about:blank","title":"x","status":503}\n\n', Fault.ERROR, 503),
        (b'data: {"detail":"busy"}\n\n', Fault.ERROR, 500),
        (b'data: {"Message":"Access denied","statusCode":403}\n\n', Fault.CREDENTIALS, 403),
        (b'data: {"object":"error","message":"x","code":429}\n\n', Fault.THROTTLED, 429),
        (b'data: {"errorCode":"ServiceUnavailable"}\n\n', Fault.ERROR, 503),
        (b'data: {"Exception":"x"}\n\n', Fault.ERROR, 500),
        (b'data: {"choices":[{"error":{"code":429}}]}\n\n', Fault.THROTTLED, 429),
        (b"event: Error\ndata: x\n\n", Fault.ERROR, 500),
        (b'event: exception\ndata: {"code":429}\n\n', Fault.THROTTLED, 429),
        (b"data: Too Many Requests\n\n", Fault.THROTTLED, 429),
        (b'{"error":{"code":"429"}}\r\n\r\n', Fault.THROTTLED, 429),
        (b'{"statusCode":503,"message":"x"}\n\n', Fault.ERROR, 503),
    ],
)
async def test_an_error_that_begins_a_stream_is_judged_by_the_status_it_names(
    first: bytes, fault: Fault, status: int
) -> None:
    """The next backend is tried, and the attempt has that status."""
    failing = stream_answer(first, OUTPUT)
    bench = Bench(a=[failing], b=[stream_answer(OUTPUT)])

    answer = await bench.forward()

    assert answer.backend.name == "b"
    assert [each.status for each in bench.attempts.made] == [status, 200]
    assert [each.fault for each in bench.attempts.failovers] == [fault]
    assert failing.times_closed == 1
    assert not may_call(bench, "a")


@pytest.mark.parametrize(
    ("body", "fault", "status", "wait"),
    [
        (b'{"error":{"code":"429","message":"Retry after 7 seconds"}}', Fault.THROTTLED, 429, 7.0),
        (b'{"id":"x","error":{"code":"429"}}', Fault.THROTTLED, 429, 10.0),
        (b'{"statusCode":429,"message":"Try again in 20 seconds."}', Fault.THROTTLED, 429, 20.0),
        (b'{"fault":{"faultstring":"x"}}', Fault.ERROR, 500, None),
        (b'{"choices":[],"error":{"code":503}}', Fault.ERROR, 503, None),
        (b'{"error":{"code":"401","message":"bad key"}}', Fault.CREDENTIALS, 401, 30.0),
        (b'{"error":{"code":"DeploymentNotFound"}}', Fault.NO_DEPLOYMENT, 404, 60.0),
    ],
)
async def test_a_whole_answer_that_is_an_error_is_judged_by_the_status_it_names(
    body: bytes, fault: Fault, status: int, wait: float | None
) -> None:
    """Although its status is 200."""
    bench = Bench(a=[json_answer(200, body)], b=[ok()])

    answer = await bench.forward()

    assert answer.backend.name == "b"
    assert [each.status for each in bench.attempts.made] == [status, 200]
    judged = bench.attempts.failovers[0]
    assert (judged.fault, judged.wait_seconds) == (fault, wait)
    assert not may_call(bench, "a")


@pytest.mark.parametrize("kind", [(), (("content-type", "text/plain"),)])
async def test_a_transcript_is_no_error_whatever_it_says(kind: tuple[tuple[str, str], ...]) -> None:
    """It is the caller's own words."""
    bench = Bench(a=[FakeAnswer(200, kind, [b'{"error":{"code":429}}'])], b=[ok()])

    answer = await bench.forward(answers_in_text=True)

    assert answer.backend.name == "a"
    assert may_call(bench, "a")


@pytest.mark.parametrize(
    ("headers", "seconds"), [((), 7.0), ((("retry-after", "20"),), 20.0)], ids=["message", "header"]
)
async def test_a_throttle_that_begins_a_stream_cools_down_for_the_wait_it_names(
    headers: tuple[tuple[str, str], ...], seconds: float
) -> None:
    """In the headers of the 200, else in its message."""
    bench = Bench(a=[stream_answer(THROTTLE, headers=headers)], b=[stream_answer(OUTPUT)])
    await bench.forward()

    assert bench.attempts.failovers[0].wait_seconds == seconds


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"error":{"code":"content_filter","message":"x"}}\n\n',
        b'data: {"error":{"type":"invalid_request_error","message":"x"}}\n\n',
        b'data: {"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}\n\n',
    ],
)
async def test_the_callers_own_mistake_in_a_stream_is_relayed(frame: bytes) -> None:
    """As it is; no other backend would answer otherwise."""
    bench = Bench(a=[stream_answer(frame)], b=[ok()])

    answer = await bench.forward()

    assert isinstance(answer, StreamedAnswer)
    assert [chunk async for chunk in answer.chunks] == [frame]
    assert may_call(bench, "a")


async def test_an_error_after_output_stays_in_the_stream() -> None:
    """The caller has begun to read."""
    bench = Bench(a=[stream_answer(OUTPUT + THROTTLE)], b=[ok()])

    answer = await bench.forward()

    assert answer.backend.name == "a"


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422, 424])
@pytest.mark.parametrize("word", [b"stream_options", b"stream_options.include_usage"])
async def test_the_option_that_the_gateway_added_is_left_out_after_any_refusal(
    status: int, word: bytes
) -> None:
    """Each request is an attempt."""
    refusal = json_answer(status, b'{"detail":[{"loc":["body","' + word + b'"]}]}')
    bench = Bench(a=[refusal, stream_answer(OUTPUT)], b=[])

    answer = await bench.forward(asks=True)

    assert isinstance(answer, StreamedAnswer)
    assert (answer.asked_for_usage, answer.is_usage_refused) == (False, True)
    assert [each.status for each in bench.attempts.made] == [status, 200]


@pytest.mark.parametrize("status", [400, 401, 403, 408, 422, 429, 500, 503])
@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}',
        b'{"error":{"message":"StreamOptions is not supported","code":"x"}}',
        b'{"statusCode":400,"message":"/stream_options/include_usage is unknown"}',
        b'{"detail":[{"loc":["body","stream_options"],"msg":"extra fields not permitted"}]}',
        b"stream_options is unknown",
        b'{"detail":[{"loc":["body","x"],"msg":"y"},{"loc":["body","stream_options"],"msg":"z"}]}',
    ],
    ids=range(6),
)
async def test_so_it_is_with_any_status_and_in_any_words(status: int, body: bytes) -> None:
    """The backend does not cool down for the gateway's own mistake."""
    bench = Bench(a=[json_answer(status, body), stream_answer(OUTPUT)], b=[])

    answer = await bench.forward(asks=True)

    assert isinstance(answer, StreamedAnswer)
    assert (answer.backend.name, answer.is_usage_refused) == ("a", True)
    assert [each.status for each in bench.attempts.made] == [status, 200]
    assert (bench.attempts.failovers, may_call(bench, "a")) == ([], True)


async def test_so_it_is_where_another_member_of_a_refusal_names_it() -> None:
    """Also in a shape that nobody knows."""
    details = b'{"error":{"message":"x","details":[{"target":"stream_options"}]}}'
    for body in (details, b'{"invalid":["stream_options"]}', b"<p>stream_options</p>"):
        bench = Bench(a=[json_answer(400, body), stream_answer(OUTPUT)])

        assert isinstance(await bench.forward(asks=True), StreamedAnswer)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":{"message":"Unknown parameter: temperatur","param":"temperatur"}}'),
        (422, b'{"detail":[{"loc":["body","x"],"msg":"extra fields not permitted"}]}'),
        (400, b'{"error":{"message":"The stream was too long."}}'),
    ],
)
async def test_the_callers_own_mistake_is_not_sent_twice(status: int, body: bytes) -> None:
    """It names another member, or none."""
    bench = Bench(a=[json_answer(status, body)], b=[])

    answer = await bench.forward(asks=True)

    assert answer.status == status
    assert len(bench.attempts.made) == 1


async def test_so_it_is_when_a_stream_begins_with_the_refusal() -> None:
    """A 200 whose first event is the caller's mistake, but is ours."""
    refusal = stream_answer(
        b'data: {"error":{"code":400,"message":"x","param":"stream_options"}}\n\n'
    )
    bench = Bench(a=[refusal, stream_answer(OUTPUT)])

    answer = await bench.forward(asks=True)

    assert isinstance(answer, StreamedAnswer)
    assert (answer.is_usage_refused, refusal.times_closed) == (True, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_the_backends_fault(status: int) -> None:
    """Its place is configured; nobody is sent elsewhere."""
    moved = json_answer(status, b"", ("location", "https://elsewhere.example/"))
    bench = Bench(a=[moved], b=[ok()])
    alone = Bench(a=[moved])

    assert (await bench.forward()).backend.name == "b"
    assert not may_call(bench, "a")
    told = await error(alone)
    assert (told[0], "location" in told[2]) == (502, False)


@pytest.mark.parametrize("kind", list(NO_DEPLOYMENT))
async def test_an_account_without_the_deployment_fails_over_and_is_logged(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The name is the configuration's; it may take Azure some minutes to know a new one."""
    bench = Bench(a=[NO_DEPLOYMENT[kind]], b=[ok()])

    answer = await bench.forward()

    status = NO_DEPLOYMENT[kind].status if kind != "stream" else 404
    assert answer.backend.name == "b"
    assert (may_call(bench, "a", after=59.0), may_call(bench, "a", after=60.0)) == (False, True)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (
            logging.ERROR,
            "backend_failed_over event_id=00000000-0000-0000-0000-000000000007 backend=a "
            f"deployment=gpt fault=no_deployment status={status}",
        )
    ]


async def test_when_no_account_has_the_deployment_the_caller_is_told() -> None:
    """In Azure's words, as a fault that is not the caller's."""
    bench = Bench(a=[NO_DEPLOYMENT["classic"]])

    status, told, _ = await error(bench)

    assert (status, told["code"], told["message"]) == (502, "DeploymentNotFound", "No.")


def stated(status: int, *headers: tuple[str, str], **members: object) -> FakeAnswer:
    return json_answer(status, json.dumps({"error": members}).encode(), *headers)


async def test_the_last_backends_words_reach_the_caller() -> None:
    """In Azure OpenAI's shape, with the gateway's status where they disagree."""
    inner = {"code": "X", "details": [1]}
    bench = Bench(
        a=[stated(500, message="first")],
        b=[
            stated(
                500,
                ("x-should-retry", "false"),
                message="Try a shorter prompt.",
                code="model_error",
                type="server_error",
                param="messages",
                innererror=inner,
            )
        ],
        c=[UpstreamUnreachable("c")],
    )

    status, told, headers = await error(bench)

    assert (status, headers["x-should-retry"]) == (502, "false")
    assert told == {
        "message": "Try a shorter prompt.",
        "code": "model_error",
        "type": "server_error",
        "param": "messages",
        "innererror": inner,
    }


async def test_throttled_everywhere_the_reason_is_told_with_the_gateways_wait() -> None:
    """A message that names another wait than the header would mislead its readers."""
    message = "You exceeded your quota. Please retry after 86400 seconds. See https://aka.ms/quota"
    bench = Bench(
        a=[stated(429, ("x-should-retry", "false"), code="insufficient_quota", message=message)],
        b=[json_answer(500, b'{"error":{"message":"broken"}}')],
    )

    status, told, headers = await error(bench)

    wait = headers["retry-after"]
    assert (status, told["code"], headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert told["type"] == "rate_limit_error"
    assert told["message"] == (
        f"You exceeded your quota. Please retry after {wait} seconds. See https://aka.ms/quota"
    )
    assert 1 <= int(wait) <= 60


async def test_a_code_that_is_another_status_is_not_told() -> None:
    """The SDK would read two statuses."""
    bench = Bench(a=[stated(500, code="500", message="x")])

    assert (await error(bench))[:2] == (
        502,
        {"message": "x", "type": "server_error", "param": None, "code": "BadGateway"},
    )


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(500, b""),
        json_answer(500, b"<html>Bad gateway</html>"),
        json_answer(500, b"\xff\xfe\xfd"),
        json_answer(500, b'{"error":{"message":"' + b"m" * 200_000 + b'"}}'),
        json_answer(500, b'{"error":{}}'),
        json_answer(500, b'{"error":{"message":"key-of-a is wrong"}}'),
        json_answer(500, b'{"error":{"message":"at https://A.example/openai"}}'),
        json_answer(500, b'{"error":{"message":"contoso.openai.azure.com is down"}}'),
        json_answer(500, b'{"error":{"innererror":{"id":"/subscriptions/0a1b"},"code":"x"}}'),
        json_answer(401, b'{"error":{"message":"Access denied due to invalid key"}}'),
        json_answer(403, b'{"error":{"message":"PermissionDenied"}}'),
        json_answer(401, b"Access denied due to invalid key"),
        json_answer(403, b'{"detail":"no role for this key"}'),
        json_answer(200, b'{"error":{"code":"401","message":"invalid key"}}'),
        stream_answer(b"data: Unauthorized: key ends with 7\n\n"),
        stream_answer(b'data: {"detail":"Access denied due to invalid subscription key"}\n\n'),
        json_answer(200, b'{"error":"Incorrect API key provided: 7"}'),
        json_answer(500, b'{"error":{"code":"PermissionDenied","message":"no role for 7"}}'),
        json_answer(500, b"Unauthorized: the key 7 is unknown"),
        json_answer(500, b"caf\xe9"),
        FakeAnswer(500, (), [b'{"error":{"message":"half', UpstreamUnreachable("a")]),
        FakeAnswer(500, (), [b'{"error":', asyncio.Event(), b'{"message":"late"}}']),
        FakeAnswer(500, (("content-encoding", "gzip"),), [b"no gzip"]),
    ],
    ids=range(23),
)
async def test_odd_and_secret_words_are_not_told(answer: Scripted) -> None:
    """The gateway's own text is."""
    bench = Bench(a=[answer])

    status, told, _ = await error(bench)

    assert (status, told["message"]) == (502, "No backend could serve this call.")


async def test_a_flat_error_is_told_in_the_callers_shape() -> None:
    """As API Management states them."""
    bench = Bench(a=[json_answer(503, b'{"statusCode":503,"message":"Backend pool is down."}')])

    status, told, _ = await error(bench)

    assert (status, told["message"], told["code"]) == (
        503,
        "Backend pool is down.",
        "ServiceUnavailable",
    )


async def test_a_plain_text_is_told_too() -> None:
    """Proxies state their errors so."""
    busy = FakeAnswer(503, (("content-type", "text/plain"),), [b"The pool is\nempty.\n"])

    status, told, _ = await error(Bench(a=[busy]))

    assert (status, told["message"]) == (503, "The pool is empty.")


@pytest.mark.parametrize(
    "message",
    [
        "Please retry after 1 hour 20 minutes.",
        "R\u00e9essayez dans 86400 secondes.",
        "Bitte in 86400 Sekunden erneut",
        "\u8bf7\u572886400\u79d2\u540e\u91cd\u8bd5",
    ],
)
async def test_a_wait_in_any_language_says_what_the_headers_say(message: str) -> None:
    """The gateway asks again sooner than the backend says."""
    bench = Bench(a=[stated(429, message=message)])

    status, told, headers = await error(bench)

    assert status == 429
    assert re.findall("[0-9]+", str(told["message"])) == [headers["retry-after"]]


async def test_a_wait_of_a_header_may_have_a_unit() -> None:
    """Some proxies write one."""
    bench = Bench(a=[json_answer(429, b"{}", ("retry-after", "20s"))], b=[ok()])

    await bench.forward()

    assert bench.attempts.failovers[0].wait_seconds == 20.0
    assert (may_call(bench, "a", after=19.0), may_call(bench, "a", after=20.0)) == (False, True)


async def test_all_attempts_together_have_a_time_limit() -> None:
    """The last gets what is left, so that the caller is answered before its connection is cut."""
    bench = Bench(a=[UpstreamTimeout("a")], b=[UpstreamTimeout("b")], c=[ok()])
    bench.upstream.seconds_per_send = 110.0

    refusal = await bench.refusal()

    assert (refusal.status, bench.upstream.order) == (504, ["a", "b"])
    assert bench.upstream.patience == [120, 110]


async def test_a_call_that_is_kept_alive_may_wait_longer() -> None:
    """Its caller gets comments meanwhile."""
    bench = Bench(a=[UpstreamTimeout("a")], b=[UpstreamTimeout("b")], c=[ok()])
    bench.upstream.seconds_per_send = 120.0

    answer = await bench.forward(is_kept_alive=True)

    assert answer.backend.name == "c"
    assert bench.upstream.patience == [120, 120, 120]


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_a_backend_that_hangs_after_its_head_is_left(kind: str) -> None:
    """The body must come as soon as the head must."""
    hung = FakeAnswer(200, (("content-type", kind),), [asyncio.Event(), b"{}"])
    bench = Bench(a=[hung], b=[ok()])
    bench.attempts_seconds = 0.3

    refusal = await bench.refusal()

    assert (refusal.status, hung.times_closed) == (504, 1)


JSON_KIND, BYTES_KIND = (
    ("content-type", "application/json"),
    ("content-type", "application/octet-stream"),
)


@pytest.mark.parametrize(
    "headers", [(), (BYTES_KIND,), (JSON_KIND,), (("content-type", "text/plain"),)]
)
async def test_a_stream_that_was_asked_for_is_one_whatever_its_type(
    headers: tuple[tuple[str, str], ...],
) -> None:
    """It streams at once; the caller's client reads the type, too."""
    source = FakeAnswer(200, headers, [OUTPUT, asyncio.Event()])
    bench = Bench(a=[source])

    answer = await bench.forward(expects_events=True)

    assert isinstance(answer, StreamedAnswer)
    assert (answer.is_events, answer.headers) == (True, (("content-type", "text/event-stream"),))


@pytest.mark.parametrize("headers", [(), (JSON_KIND,)])
async def test_json_stays_whole_where_a_stream_was_asked_for(
    headers: tuple[tuple[str, str], ...],
) -> None:
    """Some backends do not stream."""
    bench = Bench(a=[FakeAnswer(200, headers, [b'{"choices"', b":[]}"])])

    answer = await bench.forward(expects_events=True)

    assert isinstance(answer, WholeAnswer)
    assert answer.body == b'{"choices":[]}'


async def test_text_that_looks_like_a_stream_is_none_where_none_was_asked_for() -> None:
    """A transcript is the caller's own words."""
    bench = Bench(a=[FakeAnswer(200, (), [OUTPUT])])

    assert isinstance(await bench.forward(), WholeAnswer)


async def test_neither_is_a_text_that_says_that_it_is_one() -> None:
    """A transcript, although a stream was asked for: some models do not stream."""
    text = FakeAnswer(200, (("content-type", "text/plain"),), [OUTPUT])
    bench = Bench(a=[text])

    assert isinstance(await bench.forward(expects_events=True, answers_in_text=True), WholeAnswer)
