"""The front door's own errors: each names its call and its kind, and no cache keeps it."""

from copy import replace
from typing import Any
from uuid import UUID

import pytest

from meter.errors import (
    BadRequest,
    CallerError,
    EncodingRefused,
    ErrorKind,
    Forbidden,
    MethodNotAllowed,
    NotServed,
    Overloaded,
    TooLarge,
    Unauthenticated,
    UpgradeRefused,
    UpstreamBroken,
    UpstreamTimeout,
)
from meter.gateway.http import INTERNAL_ERROR, NO_KEYS, NOT_CONFIGURED, error_answer, quoted
from tests.fakes.gateway import json_answer
from tests.support.gateway import (
    CHAT_PATH,
    RULES,
    SERVED,
    V1_RESPONSES_PATH,
    Door,
    bearer,
    door,
    error_of,
    headers_of,
)

HANDSHAKE = (
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "bad_request"),
        (BadRequest("x", code="background_not_metered"), "bad_request"),
        (Unauthenticated("x"), "token"),
        (Forbidden("x", reason="roles"), "permission"),
        (NotServed("x"), "not_found"),
        (NotServed("x", kind=ErrorKind.DEPLOYMENT), "deployment"),
        (MethodNotAllowed(["GET"]), "method"),
        (EncodingRefused("x"), "encoding"),
        (UpgradeRefused("x"), "upgrade"),
        (TooLarge("x"), "body_too_large"),
        (TooLarge("x", status=408), "body"),
        (TooLarge("x", status=400), "body"),
        (TooLarge("x", status=431), "headers_too_large"),
        (Overloaded("x", retry_after_seconds=1), "throttled"),
        (Overloaded("x", retry_after_seconds=1, status=503), "overloaded"),
        (CallerError("x", status=502), "backends"),
        (CallerError("x", status=503), "backends"),
        (CallerError("x", status=504), "timeout"),
        (NO_KEYS, "keys"),
        (NOT_CONFIGURED, "settings"),
        (INTERNAL_ERROR, "internal"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else type(value).__name__,
)
def test_an_error_names_its_kind(error: CallerError, kind: str) -> None:
    """One short word, by which a program tells the gateway's errors from a backend's."""
    assert headers_of(error_answer(error))["x-meter-error"] == kind


REFUSED: dict[str, tuple[Door, dict[str, Any]]] = {
    "token": (door(), {"headers": ()}),
    "permission": (door(rules=replace(RULES, required_roles=frozenset({"Caller"}))), {}),
    "not_found": (door(), {"path": "/openai/nothing"}),
    "deployment": (door(), {"path": CHAT_PATH.replace("gpt", "other")}),
    "method": (door(), {"method": "PUT"}),
    "bad_request": (door(), {"body": b"[]"}),
    "encoding": (door(), {"headers": (*bearer(), ("content-encoding", "gzip"))}),
    "upgrade": (door(), {"method": "GET", "headers": HANDSHAKE}),
    "overloaded": (door(max_concurrent_calls=0), {}),
    "throttled": (door(json_answer(429, b"{}", ("retry-after", "3"))), {}),
    "backends": (door(UpstreamBroken("a")), {}),
    "timeout": (door(UpstreamTimeout("a")), {}),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_an_error_has_its_calls_id_and_is_kept_by_no_cache(kind: str) -> None:
    """From the first check to the last backend; where there is an event, its id."""
    made, call = REFUSED[kind]

    answer = await made.call(**call)

    headers = headers_of(answer)
    assert (headers["x-meter-error"], headers["cache-control"]) == (kind, "no-store")
    assert UUID(headers["x-meter-event-id"]).version == 7
    assert {str(event.id) for event in made.sink.events} <= {headers["x-meter-event-id"]}


async def test_without_keys_the_answer_has_an_id_too() -> None:
    """The keys are the gateway's trouble."""
    made = door()
    made.keys.is_down = True

    answer = await made.answer()

    assert (answer.status, headers_of(answer)["x-meter-error"]) == (503, "keys")
    assert "x-meter-event-id" in headers_of(answer)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_backends_own_error_has_no_kind(status: int) -> None:
    """It is passed on; a backend cannot speak for the gateway either."""
    answer = await door(json_answer(status, b"{}", ("x-meter-error", "token"))).answer()

    assert "x-meter-error" not in headers_of(answer)
    assert "x-meter-event-id" in headers_of(answer)


@pytest.mark.parametrize("path", ["/openai/models", "/openai/v1/models/gpt"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_is_answered_without_a_backend_has_an_id(method: str, path: str) -> None:
    """It makes no event; the id still finds its log lines."""
    answer = await door().call(b"", path=path, method=method)

    assert answer.status in {200, 204}
    assert UUID(headers_of(answer)["x-meter-event-id"]).version == 7
    assert headers_of(answer)["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        V1_RESPONSES_PATH,
        "/openai/responses",
        "/openai/deployments/gpt/responses",
        "/corp/team/openai/v1/responses",
        "/v1/responses",
        "/openai/v1/realtime",
    ],
)
@pytest.mark.parametrize("token", [(), bearer()], ids=["stranger", "caller"])
@pytest.mark.parametrize(
    "handshake", [HANDSHAKE, HANDSHAKE[2:], (("upgrade", "WebSocket"),)], ids=["all", "key", "any"]
)
async def test_a_websocket_handshake_is_refused_at_once(
    path: str, token: tuple[tuple[str, str], ...], handshake: tuple[tuple[str, str], ...]
) -> None:
    """426 before the token is read, at any address: agents then fall back without a retry."""
    made = door()

    answer = await made.call(b"", path=path, method="GET", headers=(*token, *handshake))

    assert answer.status == 426
    assert headers_of(answer)["upgrade"] == "HTTP/1.1"
    assert "upgrade" in headers_of(answer)["connection"]
    assert error_of(answer)["code"] == "UpgradeRequired"


@pytest.mark.parametrize("path", [CHAT_PATH, V1_RESPONSES_PATH, "/openai/v1/audio/transcriptions"])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "zstd", "deflate, gzip", "x\u00e9"])
async def test_a_packed_body_is_refused(path: str, encoding: str) -> None:
    """415 says what is accepted (RFC 9110 section 15.5.16); no byte of the body is read."""
    made = door(json_answer(200, SERVED))

    answer = await made.call(path=path, headers=(*bearer(), ("content-encoding", encoding)))

    assert (answer.status, error_of(answer)["code"]) == (415, "UnsupportedMediaType")
    assert headers_of(answer)["accept-encoding"] == "identity"
    assert made.upstream.requests == []


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_body_that_is_not_packed_is_served(encoding: str) -> None:
    """However that is said."""
    made = door(json_answer(200, SERVED))

    answer = await made.answer(headers=(*bearer(), ("content-encoding", encoding)))

    assert answer.status == 200


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "HTTP/2.0"])
async def test_any_other_upgrade_is_ignored(upgrade: str) -> None:
    """RFC 9110 section 7.8: the call is served in the protocol in which it came."""
    made = door(json_answer(200, SERVED))

    answer = await made.answer(headers=(*bearer(), ("upgrade", upgrade)))

    assert answer.status == 200


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("gpt-5", "'gpt-5'"),
        ("a\r\nb", "'a\\r\\nb'"),
        ("<b>\u202e\x1b[31m", "'<b>\\u202e\\x1b[31m'"),
        ("x" * 100, repr("x" * 100)),
        ("x" * 101, repr("x" * 100 + "...")),
        (["a"], "'[\"a\"]'"),
    ],
)
def test_what_a_caller_sent_is_repeated_short_and_plain(value: object, shown: str) -> None:
    """Messages go to terminals and logs."""
    assert quoted(value) == shown


def test_each_kind_is_one_word() -> None:
    """It is a header's value."""
    assert all(kind.isascii() and kind.replace("_", "a").isalpha() for kind in ErrorKind)
