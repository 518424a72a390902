"""Errors are read in every shape that Azure OpenAI, OpenAI and API Management give them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.answer.error_shapes import error_in_body, error_in_frame, error_in_served
from meter.gateway.answer.stated_error import MAX_MESSAGE_CHARS, StatedError

AZURE_429 = (
    "Your requests to gpt-4o for gpt-4o in Sweden Central have exceeded the token rate limit. "
    "Please retry after 45 seconds."
)


def frame(document: object, *, event: str | None = None, end: str = "\n") -> bytes:
    name = "" if event is None else f"event: {event}{end}"
    data = document if isinstance(document, str) else json.dumps(document)
    return f"{name}data: {data}{end}{end}".encode()


FRAMES: list[tuple[str, bytes, int | None]] = [
    ("code as a numeral", frame({"error": {"code": "429", "message": AZURE_429}}), 429),
    ("code as a number", frame({"error": {"code": 503, "message": "x"}}), 503),
    ("a word", frame({"error": {"code": "too_many_requests", "message": "x"}}), 429),
    ("the same in another spelling", frame({"error": {"code": "TooManyRequests"}}), 429),
    ("rate_limit_exceeded", frame({"error": {"code": "rate_limit_exceeded"}}), 429),
    ("insufficient_quota", frame({"error": {"code": "insufficient_quota"}}), 429),
    ("server_error", frame({"error": {"code": "server_error", "message": "x"}}), 500),
    ("InternalServerError", frame({"error": {"code": "InternalServerError"}}), 500),
    ("the type only", frame({"error": {"type": "tokens", "code": None, "message": "x"}}), 429),
    ("the type beside an unknown code", frame({"error": {"code": "E7", "type": "api_error"}}), 500),
    ("an overload", frame({"error": {"type": "overloaded_error"}}), 503),
    ("a text", frame({"error": "Too many requests, slow down"}), 429),
    ("a text that names nothing", frame({"error": "something broke"}), None),
    ("a message only", frame({"error": {"message": AZURE_429}}), 429),
    ("API Management", frame({"statusCode": 429, "message": "Rate limit is exceeded."}), 429),
    ("API Management, a numeral", frame({"statusCode": "503", "message": "x"}), 503),
    ("flat with a code", frame({"code": "ServiceUnavailable", "message": "x"}), 503),
    ("flat and typed", frame({"type": "error", "code": "server_error", "message": "x"}), 500),
    (
        "nested and typed",
        frame({"type": "error", "error": {"type": "too_many_requests", "message": "x"}}),
        429,
    ),
    (
        "a failed response",
        frame(
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "x"}},
            },
            event="response.failed",
        ),
        429,
    ),
    (
        "a failed response that says nothing",
        frame({"type": "response.failed", "response": {"error": None}}),
        None,
    ),
    ("an event line and a document", frame({"message": "x"}, event="error"), None),
    ("an event line and text", frame("the model is overloaded", event="error"), 503),
    ("an event line alone", b"event: error\n\n", None),
    ("CR LF", frame("busy", event="error", end="\r\n"), None),
    ("the data before the event", b"data: busy\nevent:error\n\n", None),
    ("a status beside a text", frame({"error": "busy", "status": 429}), 429),
    ("the caller's prompt", frame({"error": {"code": "content_filter", "message": "x"}}), 400),
    ("the caller's request", frame({"error": {"type": "invalid_request_error"}}), 400),
    ("the caller's image", frame({"error": {"code": "image_file_not_found"}}), 404),
    ("the gateway's key", frame({"error": {"code": "invalid_api_key"}}), 401),
    ("a number", frame({"error": 429}), 429),
    ("a numeral", frame({"error": "503"}), 503),
    ("a list", frame({"error": [{"code": 429}]}), 429),
    ("a list of texts", frame({"error": ["", "Too many requests"]}), 429),
    ("errors", frame({"errors": [{"code": "429", "message": "x"}]}), 429),
    ("errors by name", frame({"title": "x", "status": 400, "errors": {"a": ["b"]}}), 400),
    ("all in a list", frame([{"error": {"code": 429}}]), 429),
    (
        "a gateway's fault",
        frame(
            {
                "fault": {
                    "faultstring": "Quota violation.",
                    "detail": {"errorcode": "policies.ratelimit.QuotaViolation"},
                }
            }
        ),
        429,
    ),
    (
        "a fault of a backend",
        frame({"fault": {"detail": {"errorcode": "x.ServiceUnavailable"}}}),
        503,
    ),
    ("capitals", frame({"Error": {"Code": "TooManyRequests", "Message": "x"}}), 429),
    ("all in capitals", frame({"ERROR": {"CODE": 503}}), 503),
    ("a problem", frame({"type": "about:blank", "title": "x", "status": 429, "detail": "y"}), 429),
    ("a problem without a status", frame({"type": "https://a.example/b", "title": "Busy"}), None),
    ("a detail", frame({"detail": "Rate limit reached"}), 429),
    ("a detail that is an error", frame({"detail": {"code": "503", "message": "x"}}), 503),
    ("a message", frame({"Message": "Service unavailable"}), 503),
    ("a message and its id", frame({"message": "busy", "requestId": "7"}), None),
    ("an object of that name", frame({"object": "error", "message": "x", "code": 429}), 429),
    ("an object and no code", frame({"object": "error", "message": "x", "code": None}), None),
    ("an error code", frame({"errorCode": "TooManyRequests"}), 429),
    ("an error code and a text", frame({"errorCode": "E1", "errorMessage": "throttled"}), 429),
    ("an exception", frame({"Exception": "Too many requests"}), 429),
    ("an exception with a type", frame({"exception": {"type": "internal", "message": "x"}}), 500),
    ("a choice's", frame({"choices": [{"index": 0, "error": {"code": 429}}]}), 429),
    ("a status and no text", frame({"statusCode": 429}), 429),
    ("an event in capitals", frame({"message": "x", "code": "429"}, event="Error"), 429),
    ("an exception event", frame("Too Many Requests", event="exception"), 429),
    ("an error event with a code", frame({"code": 401}, event="error"), 401),
    ("a text alone", frame("Too Many Requests"), 429),
    ("a status line", frame("HTTP/1.1 503 Service Unavailable"), 503),
    ("a status and a text", frame("429: slow down"), 429),
    ("an exception's message", frame({"ExceptionMessage": "x", "ExceptionType": "y"}), None),
    ("no success", frame({"success": False, "message": "rate limit"}), 429),
    ("a key", frame({"detail": "Not authenticated"}), 401),
    ("a token", frame({"error": "invalid_token", "error_description": "x"}), 401),
    ("a proxy's text", frame("upstream connect error or disconnect/reset before headers"), None),
    ("a text in other words", frame("Server is busy"), None),
    ("a text with brackets", frame("[ERROR] 429: slow down"), 429),
    ("an exception's text", frame("System.TimeoutException: x"), 500),
    ("no data", b'{"error":{"code":"429","message":"x"}}', 429),
    ("no data, on several lines", b'\xef\xbb\xbf{\n  "statusCode": 429,\n  "message": "x"\n}', 429),
    ("no data, as a text", b"429 Too Many Requests\n", 429),
    ("no data, in a list", b'[{"error":{"code":"503"}}]\n', 503),
]


@pytest.mark.parametrize(
    ("sent", "status"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES]
)
def test_an_error_event_is_recognised_with_the_status_it_names(
    sent: bytes, status: int | None
) -> None:
    """In any shape; None where it names no status."""
    found = error_in_frame(sent)

    assert found is not None
    assert found.status == status


@pytest.mark.parametrize(
    "sent",
    [
        b"data: [DONE]\n\n",
        b": keep-alive\n\n",
        b"data: not json\n\n",
        b"\n\n",
        frame({"choices": [{"delta": {"content": 'the word "error" and {"error": 1}'}}]}),
        frame({"choices": [], "error": None, "usage": None}),
        frame({"error": None}),
        frame({"error": {}}),
        frame({"type": "response.created", "response": {"error": None}}),
        frame({"type": "response.completed", "response": {"error": None, "output": []}}),
        frame({"type": "response.output_item.added", "item": {"type": "message"}}),
        frame({"type": "response.output_item.done", "item": {"error": "a tool's own"}}),
        frame({"choices": [{"message": {"content": "x"}}], "code": "x", "message": "y"}),
        frame({"choices": []}, event="message"),
        frame([]),
        frame([{"choices": [{"delta": {"content": "x"}}]}]),
        frame([1, 429]),
        frame("429000 is a number"),
        frame("I have often seen too many requests."),
        frame({"error": {"code": None, "message": None}}),
        frame({"error": {"code": 0, "message": ""}}),
        frame({"errors": []}),
        frame({"code": 0, "message": "ok"}),
        frame({"code": 200, "message": "error"}),
        frame({"success": True, "message": "error"}),
        frame({"type": "ping"}),
        frame({"type": "progress", "message": "thinking"}),
        frame({"status": "in_progress", "message": "thinking"}),
        frame({"choices": [{"delta": {"content": "x"}, "error": None}], "errors": ["x"]}),
        frame({"choices": [{"content_filter_results": {"error": {"code": "x", "message": "y"}}}]}),
        frame({"type": "response.mcp_call.failed", "error": {"message": "a tool's own"}}),
        frame({"type": "transcript.text.delta", "delta": "x", "error": "x"}),
        frame({"type": "x" * 300, "data": [{"error": 1}], "message": "y", "code": "z"}),
    ],
)
def test_other_events_are_no_errors(sent: bytes) -> None:
    """Also where they hold the word, in a text or with nothing in it."""
    assert error_in_frame(sent) is None


AFTER_OUTPUT = [
    (frame({"error": {"code": "429"}}), True),
    (frame({"Error": "x"}), True),
    (frame({"fault": {"faultstring": "x"}}), True),
    (frame({"statusCode": 429, "message": "x"}), True),
    (frame({"title": "x", "status": 503, "detail": "y"}), True),
    (frame("x", event="error"), True),
    (b'{"error":{"code":"429"}}\n\n', True),
    (frame({"detail": "x"}), False),
    (frame({"message": "x"}), False),
    (frame("Too Many Requests"), False),
    (frame("429"), False),
]


@pytest.mark.parametrize(("sent", "is_error"), AFTER_OUTPUT, ids=range(len(AFTER_OUTPUT)))
def test_after_output_only_a_plain_error_is_one(sent: bytes, *, is_error: bool) -> None:
    """A text, or a message without a code, may belong to the output."""
    assert error_in_frame(sent) is not None
    assert (error_in_frame(sent, has_output=True) is not None) is is_error


def test_the_words_of_an_error_are_kept() -> None:
    """What the caller's SDK reads."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"jailbreak": {}}}
    body = {
        "error": {
            "code": "content_filter",
            "message": "The response was filtered.",
            "type": "invalid_request_error",
            "param": "prompt",
            "innererror": inner,
        }
    }

    assert error_in_body(json.dumps(body).encode()) == StatedError(
        message="The response was filtered.",
        code="content_filter",
        kind="invalid_request_error",
        param="prompt",
        inner=inner,
        status=400,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b"\xff\xfe\x00",
        b"[]",
        b'{"error":null}',
        b'{"result":"x"}',
        b"Too Many Requests \xff",
        b"Too Many\x00Requests",
        b"[" * 100_000,
        b'{"error":' * 50_000,
    ],
    ids=range(10),
)
def test_a_body_of_no_known_shape_states_nothing(body: bytes) -> None:
    """Nothing is guessed from it."""
    assert error_in_body(body) is None


def test_a_body_with_a_byte_that_is_not_utf_8_is_read() -> None:
    """The byte is replaced."""
    found = error_in_body(b'{"error":{"message":"caf\xe9","code":"429"}}')

    assert found == StatedError(message="caf\ufffd", code="429", status=429)


def test_the_texts_are_bounded() -> None:
    """Long ones are cut, a long inner error is dropped."""
    error = {"message": "m" * 100_000, "code": "c" * 1000, "innererror": {"a": "b" * 100_000}}

    found = error_in_body(json.dumps({"error": error}).encode())

    assert found is not None
    assert (len(found.message or ""), len(found.code or ""), found.inner) == (
        MAX_MESSAGE_CHARS,
        256,
        None,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Too Many Requests", StatedError(message="Too Many Requests", status=429)),
        (b"\n429\r\nslow down\n", StatedError(message="429 slow down", status=429)),
        (b"The service is busy.", StatedError(message="The service is busy.")),
        (
            b'{"detail":[{"loc":["body","a"],"msg":"extra fields not permitted"}]}',
            StatedError(message="extra fields not permitted", param="body.a"),
        ),
        (b'{"message":{"detail":[{"msg":"x"}]}}', StatedError(message="x")),
        (
            b'{"fault":{"faultstring":"x","detail":{"errorcode":"a.RateLimit"}}}',
            StatedError(message="x", code="a.RateLimit", status=429),
        ),
    ],
    ids=range(6),
)
def test_the_words_of_other_shapes_are_kept(body: bytes, expected: StatedError) -> None:
    """In the members that Azure OpenAI has for them; plain text on one line."""
    assert error_in_body(body) == expected


SERVED_ERRORS = [
    ({"error": {"code": "429"}}, 429),
    ({"id": "x", "error": {"code": 503}}, 503),
    ({"statusCode": 429, "message": "x"}, 429),
    ({"fault": {"faultstring": "x", "detail": {"errorcode": "RateLimit"}}}, 429),
    ({"object": "error", "message": "x", "code": 429}, 429),
    ({"code": "429", "message": "x", "data": None}, 429),
    ({"detail": "x"}, None),
    ([{"error": {"code": 429}}], 429),
    ({"object": "chat.completion", "choices": [], "error": {"code": 429}}, 429),
    ({"choices": [{"message": {"content": ""}, "error": {"code": 502}}]}, 502),
    ({"error": {"code": 429}, "usage": {"prompt_tokens": 0, "total_tokens": 0}}, 429),
]


@pytest.mark.parametrize(("document", "status"), SERVED_ERRORS, ids=range(len(SERVED_ERRORS)))
def test_a_served_answer_that_is_an_error_is_one(document: object, status: int | None) -> None:
    """Whatever stands first in it, as long as it has no output and no usage."""
    found = error_in_served(json.dumps(document).encode())

    assert found is not None
    assert found.status == status


@pytest.mark.parametrize(
    "document",
    [
        {"error": None, "choices": []},
        {"object": "response", "status": "failed", "error": {"code": "server_error"}, "output": []},
        {"error": {"code": 429}, "usage": {"prompt_tokens": 3}},
        {"error": {"code": 429}, "choices": [{"message": {"content": "x"}}]},
        {"choices": [{"message": {"content": "x"}}, {"error": {"code": 429}}]},
        {"error": {"code": 429}, "data": [{"embedding": [0.5]}]},
        {"text": "x", "message": "y", "code": "z"},
        {"object": "list", "data": [], "detail": "x", "message": "y", "code": "429"},
        {
            "id": "resp_1",
            "object": "response.deleted",
            "deleted": True,
            "message": "x",
            "code": "y",
        },
        {"object": "response.input_tokens", "input_tokens": 11},
        "Too Many Requests",
        429,
        None,
    ],
    ids=range(13),
)
def test_other_served_answers_are_no_errors(document: object) -> None:
    """Output and usage are the caller's and charged; a failed response is stored."""
    assert error_in_served(json.dumps(document).encode()) is None


HOSTILE = st.sampled_from(
    [
        *('{"error":{"code":429}}', "Too Many Requests", '"error":', "429", "error"),
        *('data: {"error":1}\n\n', "event: error", '\\"error\\":{', '{"fault":{}}'),
        *("response.failed", '"statusCode":429,"message":"x"', "exception", '"detail":"x"'),
    ]
)
TEXTS = st.lists(HOSTILE | st.text(max_size=20), max_size=3).map(" ".join)
EXTRAS = st.dictionaries(st.sampled_from(["detail", "message", "title", "code", "status"]), TEXTS)
CALLS = st.lists(st.fixed_dictionaries({"function": st.fixed_dictionaries({"arguments": TEXTS})}))
FILTERS = st.just({"error": {"code": "content_filter_error", "message": "Not filtered."}})
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXTS | st.none(), "tool_calls": CALLS}
)
CHOICES = st.one_of(
    st.fixed_dictionaries({"message": MESSAGES, "content_filter_results": FILTERS}),
    st.fixed_dictionaries({"delta": MESSAGES, "content_filter_results": FILTERS}),
    st.fixed_dictionaries({"text": TEXTS}),
)
OUTPUT = st.lists(st.fixed_dictionaries({"type": TEXTS, "output": TEXTS, "error": TEXTS}))
ANSWERS = st.one_of(
    st.fixed_dictionaries({"choices": st.lists(CHOICES), "error": st.none()}),
    st.fixed_dictionaries({"object": st.just("response"), "output": OUTPUT, "error": st.none()}),
    st.fixed_dictionaries({"object": st.just("list"), "data": st.lists(st.floats(0, 1))}),
    st.fixed_dictionaries({"text": TEXTS, "segments": st.lists(TEXTS)}),
    st.fixed_dictionaries({"created": st.just(1), "data": st.lists(st.dictionaries(TEXTS, TEXTS))}),
)
EVENTS = st.one_of(
    ANSWERS,
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                [
                    *("response.output_text.delta", "response.completed", "transcript.text.delta"),
                    *("response.function_call_arguments.done", "image_generation.completed"),
                ]
            ),
            "delta": TEXTS,
            "item": st.fixed_dictionaries({"error": TEXTS, "arguments": TEXTS}),
            "response": st.fixed_dictionaries({"error": st.none(), "output": OUTPUT}),
        }
    ),
)


@given(ANSWERS, EXTRAS)
def test_no_words_in_an_answer_make_it_an_error(
    answer: dict[str, object], extras: dict[str, str]
) -> None:
    """Texts, arguments of tools and members beside a known answer's own may say anything."""
    assert error_in_served(json.dumps({**extras, **answer}).encode()) is None
    assert error_in_served(json.dumps({**answer, **extras}, indent=1).encode()) is None


@given(EVENTS, EXTRAS, st.booleans())
def test_no_words_in_an_event_make_it_an_error(
    event: dict[str, object], extras: dict[str, str], has_output: bool
) -> None:
    """Wherever in the stream it stands."""
    for document in (event, {**extras, **event}, {**event, **extras}):
        assert error_in_frame(frame(document), has_output=has_output) is None


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_reader_of_errors(data: bytes, has_output: bool) -> None:
    """Answers are hostile input."""
    for text in (data, b"data: " + data, b"event: error\ndata: " + data, b'{"error":' + data):
        error_in_frame(text, has_output=has_output)
        error_in_body(text)
        error_in_served(text)


WORDS = st.sampled_from(
    [
        *("error", "Errors", "fault", "exception", "code", "message", "detail", "status", "type"),
        *("response", "choices", "usage", "object", "innererror", "loc", "msg", "response.failed"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 600) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
)


@given(st.dictionaries(WORDS, VALUES))
def test_no_document_breaks_the_reader_of_errors(document: dict[str, object]) -> None:
    """Any member may have any type."""
    body = json.dumps(document).encode()

    for found in (error_in_frame(b"data: " + body), error_in_body(body), error_in_served(body)):
        assert found is None or 400 <= found.likely_status <= 599
