"""The front door's answers: refusals in AOAI's shape, health, and answers byte for byte."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.support.running import RunningStack, new_subject, run_stack

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.mark.parametrize(
    "token", [None, "", "nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."]
)
def test_nobody_gets_in_without_a_valid_token(stack: RunningStack, token: str | None) -> None:
    """401 in AOAI's shape with a challenge, which names an error where a token was sent (RFC 6750)."""
    answer = stack.post(CHAT, token, BODY)

    assert answer.status_code == 401
    challenge = 'error="invalid_token"' if token else 'realm="aoai-meter"'
    assert answer.headers["www-authenticate"] == f"Bearer {challenge}"
    assert answer.json()["error"]["code"] == "401"


@pytest.mark.parametrize(
    "options",
    [
        ["--expires-in", "-120"],
        ["--audience", "api://another"],
        ["--claim", "iss=https://issuer.invalid"],
        ["--claim", "sub=null"],
        ["--claim", "exp=null"],
    ],
    ids=["expired", "audience", "issuer", "no-subject", "no-expiry"],
)
def test_a_token_that_is_not_for_this_gateway_is_refused(
    stack: RunningStack, options: list[str]
) -> None:
    """Expiry, audience, issuer and subject are all checked; only some refusals say more."""
    answer = stack.post(CHAT, stack.token("mallory", *options), BODY)

    assert answer.status_code == 401
    cause = "audience" if "--audience" in options else "expired"
    assert cause in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
def test_an_odd_method_is_refused_by_the_gateway(stack: RunningStack, method: str) -> None:
    """The host does not answer in its place, without the call's id."""
    authorization = {"authorization": f"Bearer {stack.token('odd')}"}
    answer = requests.request(method, stack.url + CHAT, headers=authorization, timeout=20)

    assert answer.status_code == 405
    assert {"x-meter-error", "x-meter-event-id"} <= {name.lower() for name in answer.headers}


@pytest.mark.parametrize(
    "headers",
    [{"x-long": "a" * 33_000}, {f"x-{number}": "a" for number in range(100)}],
    ids=["long", "many"],
)
def test_large_headers_are_refused_by_the_host(
    stack: RunningStack, headers: dict[str, str]
) -> None:
    """Its proxy takes 32 KiB or 100 of them; the gateway never sees such a request."""
    answer = stack.post(CHAT, stack.token("large"), BODY, headers=headers)

    assert (answer.status_code, answer.content) == (431, b"")
    assert "x-meter-event-id" not in answer.headers


def test_a_rotated_key_is_accepted_without_a_restart(stack: RunningStack) -> None:
    """An unknown key id triggers a fetch of the key set, at most once per interval."""
    issuer = stack.description["issuer"]
    assert stack.post(CHAT, stack.token("rotation"), BODY).status_code == 200
    requests.post(f"{issuer}/rotate", timeout=10).raise_for_status()
    token = stack.token("rotation")

    threading.Event().wait(1.1)  # METER_JWKS_REFRESH_SECONDS of this stack
    answer = stack.post(CHAT, token, BODY)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (
            "/openai/deployments/nope/chat/completions?api-version=1",
            BODY,
            404,
            "DeploymentNotFound",
        ),
        ("/openai/v1/chat/completions", {**BODY, "model": "nope"}, 404, "DeploymentNotFound"),
        ("/openai/v1/chat/completions", {"messages": []}, 400, "BadRequest"),
        ("/openai/v1/files", BODY, 404, "404"),
        ("/openai/deployments/gpt-4o/../gpt-4o/chat/completions", BODY, 404, "404"),
        ("/", BODY, 404, "404"),
        (CHAT, [1, 2], 400, "BadRequest"),
    ],
)
def test_requests_that_are_not_served_are_refused_with_the_reason(
    stack: RunningStack, path: str, body: object, status: int, code: str
) -> None:
    """Unknown deployments and paths are 404, unreadable bodies 400, in AOAI's shape."""
    session = requests.Session()
    request = requests.Request(
        "POST",
        stack.url + path,
        json=body,
        headers={"authorization": f"Bearer {stack.token('asker')}"},
    ).prepare()
    request.url = stack.url + path  # requests would normalise the path
    with session:
        answer = session.send(request, timeout=30)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert set(answer.json()["error"]) == {"code", "message", "type", "param"}


def test_a_body_that_is_too_large_is_refused(stack: RunningStack) -> None:
    """413 from the declared length, before the body is read."""
    headers = {
        "authorization": f"Bearer {stack.token('large')}",
        "content-type": "application/json",
    }
    answer = requests.post(stack.url + CHAT, data=b"x" * 40_000_000, headers=headers, timeout=60)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "RequestTooLarge"


def test_an_error_of_the_callers_own_making_is_passed_on(stack: RunningStack) -> None:
    """AOAI's 400 comes back as AOAI wrote it, after one attempt, and counts as a failed call."""
    subject = new_subject("own-mistake")
    stack.fault({"status": 400, "body": {"error": {"code": "content_filter"}}, "count": 1})

    answer = stack.post(CHAT, stack.token(subject), BODY)

    stack.clear_faults()
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "content_filter"}}
    [row] = stack.wait_until_counted(subject, 1)
    assert row["FailedCalls"].value == 1


def test_answers_carry_the_event_id_and_the_total(stack: RunningStack) -> None:
    """`x-meter-event-id` names the usage event; `total-tokens` is set on answers that are not streams."""
    answer = stack.post(CHAT, stack.token("headers"), BODY)

    assert answer.headers["total-tokens"] == str(answer.json()["usage"]["total_tokens"])
    assert len(answer.headers["x-meter-event-id"]) == 36
    assert "api-key" not in {name.lower() for name in answer.headers}


@pytest.mark.parametrize("path", ["/openai/v1/responses", "/openai/deployments/gpt-4o/responses"])
def test_a_websocket_handshake_falls_back_at_once(stack: RunningStack, path: str) -> None:
    """426 without a token, through the host: agents would retry a 401 or a 404 for seconds."""
    handshake = {"connection": "Upgrade", "upgrade": "websocket"}
    answer = requests.get(stack.url + path, headers=handshake, timeout=10)

    assert (answer.status_code, answer.headers["x-meter-error"]) == (426, "upgrade")
    assert stack.post(CHAT, stack.token("after-it"), BODY).status_code == 200


def test_what_was_probably_meant_is_said_through_the_host(stack: RunningStack) -> None:
    """The path arrives as it was sent; without an api-version Azure's own 404 gets a reason."""
    token = stack.token("lost")

    plain = stack.post("/v1/chat/completions", token, BODY)
    unversioned = stack.post(CHAT.partition("?")[0], token, BODY)

    assert (plain.status_code, unversioned.status_code) == (404, 404)
    assert "did you mean /openai/v1/chat/completions?" in plain.json()["error"]["message"]
    assert "api-version" in unversioned.json()["error"]["message"]
    for answer in (plain, unversioned):
        assert answer.headers["x-meter-error"] == "not_found"
        assert len(answer.headers["x-meter-event-id"]) == 36
        assert answer.headers["cache-control"] == "no-store"


def test_a_callers_invocation_id_and_packed_body_harm_nobody_else(stack: RunningStack) -> None:
    """The host hands the id on: its own call is refused in time, others are not harmed."""
    token = stack.token("odd")

    named = stack.post(CHAT, token, BODY, headers={"x-ms-invocation-id": "callers-own"})
    packed = stack.post(CHAT, token, BODY, headers={"content-encoding": "gzip"})
    after = stack.post(CHAT, token, BODY)

    assert [each.status_code for each in (named, packed, after)] == [400, 415, 200]


def test_health_reports_a_working_stack(stack: RunningStack) -> None:
    """/healthz: the process is alive. /readyz: settings, keys, storage and hub are available."""
    assert requests.get(f"{stack.url}/healthz", timeout=10).json() == {"status": "alive"}
    ready = requests.get(f"{stack.url}/readyz", timeout=10).json()
    assert ready == {"status": "ready", "outbox": ready["outbox"], "prices": "read"}
    assert set(ready["outbox"]) == {"events", "oldest_seconds"}


STREAMED = (
    b'data: {"choices":[],"id":"","model":"","prompt_filter_results":[]}\r\n\r\n'
    b": a comment\n\n"
    b'event: x\ndata: {"id":"1","model":"gpt-4o-2024-11-20","choices":[{"delta":{"content":'
    b'"\xc3\xa9 \\"usage\\": {"}}],"usage":null}\r\r'
    b'data: {"id":"1","model":"gpt-4o-2024-11-20","choices":[{"delta":{}}],"usage":null}\n\n'
    b'data: {"id":"1","model":"gpt-4o-2024-11-20","choices":[],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":22,"total_tokens":33}}\n\n'
    b"data: [DONE]\n\n"
)
USAGE_FRAME = STREAMED[STREAMED.index(b'"usage":{"prompt') :]
WHOLE = b'{ "usage" : {"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"x":"\\u00e9\xc3\xa9" }'


class _Backend(BaseHTTPRequestHandler):
    """Answers fixed bytes, one by one when streaming, and records its requests."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        type(self).seen.append((self.path, headers, body))
        is_stream = json.loads(body).get("stream") is True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("x-request-id", "from-the-backend")
        self.send_header("Set-Cookie", "a=b")
        if not is_stream:
            self.send_header("Content-Length", str(len(WHOLE)))
            self.end_headers()
            self.wfile.write(WHOLE)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(STREAMED), 7):
            part = STREAMED[start : start + 7]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def own_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack whose only backend is the one above, under another deployment name."""
    _Backend.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder: Path = tmp_path_factory.mktemp("own")
    backend = {
        "name": "fixed",
        "url": f"http://127.0.0.1:{server.server_port}",
        "auth": {"kind": "api-key", "setting": "FIXED_KEY"},
        "deployments": {"public": "private-name"},
        "tier": "provisioned",
    }
    (folder / "backends.json").write_text(json.dumps({"backends": [backend]}))
    with run_stack(
        folder / "state",
        "--backends",
        str(folder / "backends.json"),
        settings={"FIXED_KEY": "the-backend-key"},
    ) as running:
        yield running
    server.shutdown()
    server.server_close()


def test_a_stream_is_relayed_byte_for_byte_but_for_the_hidden_frame(
    own_backend: RunningStack,
) -> None:
    """Only the usage frame that the gateway requested is missing, for every kind of line end."""
    subject = new_subject("bytes")
    body = {**BODY, "stream": True}
    path = "/openai/deployments/public/chat/completions?api-version=2024-10-21"
    answer = own_backend.post(path, own_backend.token(subject), body)
    asked = {**body, "stream_options": {"include_usage": True}}
    whole = own_backend.post(path, own_backend.token(subject), asked)

    hidden = STREAMED.index(b'data: {"id":"1","model":"gpt-4o-2024-11-20","choices":[],')
    assert answer.content == STREAMED[:hidden] + b"data: [DONE]\n\n"
    assert whole.content == STREAMED
    [row] = own_backend.wait_until_counted(subject, 2)
    assert row["TotalTokens"].value == 66
    assert row["Model"] == "gpt-4o-2024-11-20"
    assert row["Deployment"] == "public"
    assert row["Tier"] == "provisioned"


def test_a_whole_answer_is_relayed_byte_for_byte(own_backend: RunningStack) -> None:
    """The body and the request id are relayed; headers of the backend's connection are not."""
    token = own_backend.token("bytes")
    answer = own_backend.post("/openai/v1/chat/completions", token, {**BODY, "model": "public"})

    assert answer.content == WHOLE
    assert answer.headers["total-tokens"] == "3"
    assert answer.headers["x-request-id"] == "from-the-backend"
    assert "set-cookie" not in answer.headers


def test_a_backend_gets_the_gateways_credentials_and_the_verified_subject(
    own_backend: RunningStack,
) -> None:
    """The caller's token, cookies and routing headers are not forwarded; `caller-subject` is set here."""
    subject = "Zoë/../ü#?"
    smuggled = {
        "caller-subject": "someone else",
        "cookie": "a=b",
        "x-ms-spillover-deployment": "x",
        "x-forwarded-for": "10.0.0.1",
    }
    token = own_backend.token(subject)
    own_backend.post(
        "/openai/deployments/public/chat/completions?api-version=1", token, BODY, headers=smuggled
    ).raise_for_status()

    path, headers, body = _Backend.seen[-1]
    assert path == "/openai/deployments/private-name/chat/completions?api-version=1"
    assert headers["api-key"] == "the-backend-key"
    assert headers["caller-subject"] == "Zo%C3%AB%2F..%2F%C3%BC%23%3F"
    assert not {"authorization", "cookie", "x-ms-spillover-deployment", "x-forwarded-for"} & set(
        headers
    )
    assert token not in str(headers)
    assert json.loads(body)["messages"] == BODY["messages"]
    [row] = own_backend.wait_until_counted(subject, 1)
    assert row["Subject"] == subject
