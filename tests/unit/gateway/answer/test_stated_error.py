"""Errors are read in every shape that Azure OpenAI, OpenAI and API Management give them."""

import json

import pytest

from meter.gateway.answer.stated_error import (
    MAX_MESSAGE_CHARS,
    StatedError,
    error_in_body,
    error_in_frame,
)

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
        frame([{"error": {"code": 429}}]),
        frame({"choices": []}, event="message"),
    ],
)
def test_other_events_are_no_errors(sent: bytes) -> None:
    """Also where they hold the word, in a text or with nothing in it."""
    assert error_in_frame(sent) is None


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
        b'{"detail":"x"}',
        b"[" * 100_000,
        b'{"error":' * 50_000,
    ],
    ids=range(8),
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
    ("message", "seconds"),
    [
        (AZURE_429, 45.0),
        ("Please retry after 1 second.", 1.0),
        ("Please try again in 1.2s. Visit https://example.com", 1.2),
        ("Please try again in 6ms.", 0.006),
        ("Try again in 1m30s", 90.0),
        ("Try again in 1 minute, 5 seconds.", 65.0),
        ("Retry your requests after 2 hours", 7200.0),
        ("Please wait 30 seconds and retry.", 30.0),
        ("Please retry after 0 seconds.", None),
        ("Please retry later. 3 minutes are usual.", None),
        ("limit is 100000 tokens per minute, retry with a smaller request", None),
        ("", None),
    ],
)
def test_the_wait_that_a_message_asks_for_is_read(message: str, seconds: float | None) -> None:
    """In the spellings of Azure OpenAI and OpenAI."""
    assert StatedError(message=message).wait_seconds == seconds


def test_the_wait_in_a_message_can_be_replaced() -> None:
    """Clients read it there too: it must not contradict the headers."""
    error = StatedError(message="Please retry after 86400 seconds. See https://aka.ms/quota")

    assert error.message_with_wait(60) == "Please retry after 60 seconds. See https://aka.ms/quota"


@pytest.mark.parametrize(
    ("error", "is_missing"),
    [
        (StatedError(code="DeploymentNotFound"), True),
        (StatedError(message="Could not find an existing deployment to match the model."), True),
        (StatedError(message="The API deployment for this resource does not exist. If"), True),
        (StatedError(message="Invalid text: 'Could not find an existing deployment'"), False),
        (StatedError(code="NotFound", message="Response resp_1 not found"), False),
        (StatedError(), False),
    ],
)
def test_a_missing_deployment_is_recognised(error: StatedError, *, is_missing: bool) -> None:
    """By its code, or by how the message begins: the rest may repeat the caller's words."""
    assert error.names_no_deployment is is_missing
