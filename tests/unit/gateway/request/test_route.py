"""A request line is one of the known forms or is refused."""

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from

from local.functions.proxy.head import Refused, RequestHead
from local.functions.proxy.rewrite import address
from meter.errors import BadRequest, MethodNotAllowed, NotServed
from meter.gateway.request.operations import TABLE, Operation, Served
from meter.gateway.request.route import Routes, is_deployment_name

VERSION = "api-version=2024-10-21"
ROUTES = Routes()
ACCEPTED = [
    ("/openai/deployments/gpt-4o/chat/completions", "chat/completions", "gpt-4o"),
    ("/openai/deployments/a.b_c-1/completions", "completions", "a.b_c-1"),
    ("/openai/deployments/embed/embeddings", "embeddings", "embed"),
    ("/openai/responses", "responses", None),
    ("/openai/v1/chat/completions", "chat/completions", None),
    ("/openai/v1/completions", "completions", None),
    ("/openai/v1/embeddings", "embeddings", None),
    ("/openai/v1/responses", "responses", None),
    ("/openai/responses/compact", "responses/compact", None),
    ("/openai/v1/responses/compact", "responses/compact", None),
    ("/openai/responses/input_tokens", "responses/input_tokens", None),
    ("/openai/v1/responses/input_tokens", "responses/input_tokens", None),
]
REFUSED = [
    "",
    "/",
    "//openai/responses",
    "/openai/responses;x=1",
    "/openai/responses%20",
    "/openai/responses\n",
    "/OpenAI/responses",
    "/openai/Responses",
    "/api/openai/responses",
    "/openai/v2/responses",
    "/openai/v1/../responses",
    "/openai/./responses",
    "/openai/%72esponses",
    "/openai%2fresponses",
    "\\openai\\responses",
    "/openai\\responses",
    "https://evil.example/openai/responses",
    "http://127.0.0.1/openai/v1/embeddings",
    "openai/responses",
    "*",
    "/openai/deployments/gpt/chat//completions",
    "/openai/deployments//chat/completions",
    "/openai/deployments/gpt/models",
    "/openai/images/generations",
    "/openai/audio/speech",
    "/openai/responses/..",
    "/openai/responses/resp_1/..",
    "/openai/responses/%2e%2e",
    "/openai/responses/resp_1/input_items/x",
    "/openai/responses/resp_1/output",
    "/openai/responses/{id}",
    "/openai/responses/compaction",
    "/openai/responses/input_items",
    "/openai/v1/responses/search",
    "/openai/v1/responses/cancel",
    "/openai/v1/responses/123",
    "/openai/v1/responses/resp_",
    "/openai/v1/responses/compact/cancel",
    "/openai/deployments/gpt/responses/compact",
    "/openai/responses/" + "a" * 129,
    "/openai/v1/images/variations",
    "/openai/deployments/a/b/chat/completions",
    "/openai/deployments/%2e%2e/chat/completions",
    "/openai/deployments/..%2f/chat/completions",
    "/openai/deployments/gpt%2fchat/completions",
    "/openai/deployments/gpt;v=1/chat/completions",
    "/openai/deployments/g\\pt/chat/completions",
    "/openai/deployments/gpt\u00e9/chat/completions",
    "/openai/deployments/gpt\u0661/chat/completions",
    "/openai/deployments/gpt chat/completions",
    "/openai/deployments/gpt\x00/chat/completions",
    "/openai/deployments/" + "a" * 65 + "/chat/completions",
    "/openai/deployments/gpt/chat/completions?api-version=1",
    "/openai/deployments/gpt/chat/completions#x",
]


@pytest.mark.parametrize(("path", "operation", "deployment"), ACCEPTED)
def test_the_known_forms_are_routed(path: str, operation: str, deployment: str | None) -> None:
    """Classic paths name the deployment; the others leave it to the body's `model`."""
    route = ROUTES.route("POST", path, VERSION)

    assert (route.operation.value, route.deployment) == (operation, deployment)


@pytest.mark.parametrize("path", REFUSED, ids=repr)
def test_every_other_path_is_not_found(path: str) -> None:
    """Deny by default, on the path as it was sent."""
    with pytest.raises(NotServed) as refused:
        ROUTES.route("POST", path, VERSION)

    assert refused.value.status == 404


def as_the_host_sends_it(path: str) -> str:
    """A path as the Functions host's proxy decodes it and encodes it anew."""
    head = RequestHead(
        method="GET",
        target=path,
        is_http_10=False,
        headers=[("host", "x")],
        length=None,
        is_chunked=False,
    )
    return address(head).encoded


@pytest.mark.parametrize("path", [path for path, _, _ in ACCEPTED])
def test_the_host_changes_no_known_form(path: str) -> None:
    """What is served arrives there as it was sent."""
    assert as_the_host_sends_it(path) == path


@pytest.mark.parametrize("path", [path for path in REFUSED if path.startswith("/")], ids=repr)
def test_a_refused_path_is_refused_as_the_host_sends_it_too(path: str) -> None:
    """Or is a known form by then, without anything that could be decoded once more."""
    try:
        sent = as_the_host_sends_it(path)
        ROUTES.route("POST", sent, VERSION)
    except (Refused, NotServed, MethodNotAllowed):
        return
    assert sent.removesuffix("/") in {known for known, _, _ in ACCEPTED}


@given(lists(sampled_from(["/", "%2F", "%2f", "%252F", "%25", "2F", "..", "a", "responses"])))
def test_an_encoded_slash_is_none_in_either_form(parts: list[str]) -> None:
    """`%2F` and `%252F` arrive alike, as `%252F`, and nothing is decoded a second time."""
    path = "/openai/v1/" + "".join(parts)
    for form in (path, as_the_host_sends_it(path)):
        if "%" in form:
            with pytest.raises(NotServed):
                ROUTES.methods(form, VERSION)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "BREW", "post", ""])
def test_other_methods_are_not_allowed(method: str) -> None:
    """405 on a known path, with the methods that are (RFC 9110 section 15.5.6)."""
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTES.route(method, "/openai/responses", "")

    assert (refused.value.status, refused.value.code) == (405, "MethodNotAllowed")
    assert refused.value.allowed == ("POST", "OPTIONS")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/openai/v1/embeddings", ("POST", "OPTIONS")),
        ("/openai/responses/resp_1", ("GET", "DELETE", "HEAD", "OPTIONS")),
        ("/openai/v1/responses/resp_1/cancel", ("POST", "OPTIONS")),
        ("/openai/v1/responses/resp_1/input_items", ("GET", "HEAD", "OPTIONS")),
        ("/openai/models", ("GET", "HEAD", "OPTIONS")),
    ],
)
def test_an_address_tells_its_methods(path: str, methods: tuple[str, ...]) -> None:
    """What OPTIONS and a 405 say."""
    assert ROUTES.methods(path, VERSION) == methods


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/openai/realtime", "The Realtime API"),
        ("/openai/v1/realtime/sessions", "The Realtime API"),
        ("/openai/v1/batches", "The Batch API"),
        ("/openai/files", "The Files API"),
        ("/openai/v1/files/file-1/content", "The Files API"),
        ("/openai/assistants", "The Assistants API"),
        ("/openai/threads/t/runs", "The Assistants API"),
        ("/openai/v1/fine_tuning/jobs", "Fine-tuning"),
        ("/openai/deployments/gpt/extensions/chat/completions", "Chat extensions"),
    ],
)
def test_what_is_not_served_is_said_by_name(path: str, family: str) -> None:
    """A clear 404, which SDKs do not retry."""
    with pytest.raises(NotServed) as refused:
        ROUTES.route("POST", path, VERSION)

    assert refused.value.message.startswith(f"{family} is not served here.")


@pytest.mark.parametrize("served", TABLE, ids=lambda served: served.operation.value)
def test_each_operation_has_its_addresses(served: Served) -> None:
    """One in the classic style, one in v1, and the same row behind both."""
    tail = served.tail.replace("{id}", "resp_1")
    classic = served.place.value.format(deployment="gpt") + tail

    for path in (classic, f"/openai/v1/{tail}"):
        route = ROUTES.route(served.method, path, VERSION)
        assert (route.served, route.upstream_path("gpt")) == (served, f"{path}?{VERSION}")


@pytest.mark.parametrize("stored", ["resp_1", "resp_68a-b.c_D", "caresp_01f", "resp_" + "a" * 123])
def test_the_id_of_a_response_is_told_from_other_words(stored: str) -> None:
    """It holds `resp_`, as Azure's do."""
    route = ROUTES.route("GET", f"/openai/v1/responses/{stored}", "")

    assert (route.operation, route.stored_id) == (Operation.RESPONSES_GET, stored)


def test_an_unknown_path_is_not_found_whatever_the_method() -> None:
    """The path is judged before the method."""
    with pytest.raises(NotServed):
        ROUTES.route("DELETE", "/openai/files", "")


@pytest.mark.parametrize(
    ("query", "api_version"),
    [
        ("", None),
        ("api-version=2024-10-21", "2024-10-21"),
        ("x=1&api-version=2025-01-01-preview", "2025-01-01-preview"),
        ("api-version=preview&api-version=other", "preview"),
        ("API-Version=2024-10-21", "2024-10-21"),
        ("api-version=", None),
        ("api-version=" + "v" * 100, "v" * 64),
    ],
)
def test_the_api_version_is_read_from_the_query(query: str, api_version: str | None) -> None:
    """The first one counts, and its length is bounded since it is stored."""
    assert ROUTES.route("POST", "/openai/responses", query).api_version == api_version


@pytest.mark.parametrize(
    "query", ["a b", "a=\n", "a=\x00", "\u00e9=1", '"', "<x>", "\\", "a" * 2048 + "\n"]
)
def test_a_query_with_odd_characters_is_a_bad_request(query: str) -> None:
    """400; an encoded form of the same passes unchanged."""
    with pytest.raises(BadRequest) as refused:
        ROUTES.route("POST", "/openai/responses", query)

    assert refused.value.status == 400


def test_a_query_that_is_too_long_is_said_to_be() -> None:
    """The limit is named, and one character less passes."""
    ROUTES.route("POST", "/openai/responses", "a" * 2048)
    with pytest.raises(BadRequest, match=r"longer than 2048 characters"):
        ROUTES.route("POST", "/openai/responses", "a" * 2049)


@pytest.mark.parametrize("query", ["", "x=1", "api-version=", "api_version=2024-10-21"])
@pytest.mark.parametrize("tail", ["chat/completions", "embeddings", "audio/speech", "images/edits"])
def test_a_deployments_address_needs_an_api_version(tail: str, query: str) -> None:
    """Azure answers 404 without one, and names no reason: no backend is asked."""
    with pytest.raises(NotServed) as refused:
        ROUTES.route("POST", f"/openai/deployments/gpt/{tail}", query)

    assert f"this call of {tail} has no `api-version`" in refused.value.message
    assert f"add ?api-version=..., or call /openai/v1/{tail} without it." in refused.value.message


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (
            "/openai/deployments/public/chat/completions",
            "api-version=1",
            "/openai/deployments/own-name/chat/completions?api-version=1",
        ),
        ("/openai/responses", "api-version=1", "/openai/responses?api-version=1"),
        ("/openai/v1/embeddings", "", "/openai/v1/embeddings"),
    ],
)
def test_the_upstream_path_is_built_from_the_parts(path: str, query: str, expected: str) -> None:
    """The backend's own deployment name takes the public one's place; the query stays as it was."""
    assert ROUTES.route("POST", path, query).upstream_path("own-name") == expected


def test_stream_options_are_for_chat_and_completions() -> None:
    """The other APIs report usage by themselves and refuse the option."""
    takers = {served.operation for served in TABLE if served.takes_stream_options}

    assert takers == {Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS}


@pytest.mark.parametrize("name", ["", "a" * 65, "a/b", "a b", "\u00e9", None, 7, ["gpt"], "gpt\n"])
def test_what_cannot_name_a_deployment_is_told(name: object) -> None:
    """1-64 letters, digits and `._-`."""
    assert is_deployment_name(name) is False
