"""Credentials, steering and identity never reach a backend; connection matters stay on their hop."""

from contextlib import nullcontext
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis.strategies import characters, integers, lists
from hypothesis.strategies import text as texts

from meter.errors import TooLarge
from meter.gateway.headers import (
    MAX_ANSWER_BYTES,
    by_name,
    downstream_headers,
    header,
    subject_header,
    traced,
    upstream_headers,
)
from meter.ports import Headers
from tests.support.gateway import request, request_limits

KEY = (("api-key", "key-of-a"),)

SUBJECTS = texts(characters(exclude_categories=["Cs"]), min_size=1)

STRIPPED_UPSTREAM = [
    "authorization",
    "cookie",
    "host",
    "content-length",
    "expect",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-original-url",
    "x-arr-log-id",
    "x-azure-clientip",
    "client-ip",
    "x-ms-spillover-deployment",
    "x-ms-client-principal",
    "x-ms-token-aad-access-token",
    "x-ms-anything-new",
    "ocp-apim-subscription-key",
    "x-meter-event-id",
    "total-tokens",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    # Those that some server or proxy obeys, and those that no one has heard of.
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-accel-redirect",
    "x-host",
    "x-forwarded",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "x-api-key",
    "cookie2",
    "range",
    "if-none-match",
    "prefer",
    "azureml-model-deployment",
    "x-policy-id",
    "accept-language",
    "baggage",
    "x-codex-turn-metadata",
    "x-anything",
    # A server that maps `_` to `-` would read them as the gateway's own.
    "caller_subject",
    "api_key",
    "x_ms_client_request_id",
    "x_forwarded_for",
    "content_type",
    "openai_beta",
    "openai-a_b",
    "x-stainless-retry_count",
]
# Of 360 recorded requests of coding agents, Node and .NET SDKs: what Azure OpenAI reads or logs.
SENT_UPSTREAM = [
    "accept",
    "content-type",
    "user-agent",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "x-stainless-retry-count",
    "x-stainless-helper-method",
    "request-id",
    "x-client-request-id",
    "x-correlation-id",
    "x-request-id",
    "x-ms-client-request-id",
    "x-ms-return-client-request-id",
    "x-ms-useragent",
    "traceparent",
    "tracestate",
]


@pytest.mark.parametrize("name", STRIPPED_UPSTREAM)
def test_what_is_not_a_backends_business_is_stripped(name: str) -> None:
    """Credentials, cookies, forwarding, steering and hop-by-hop headers."""
    sent = upstream_headers(((name, "x"), ("accept", "*/*")), "alice", KEY)

    assert header(sent, name) is None
    assert header(sent, "accept") == "*/*"


@pytest.mark.parametrize("name", SENT_UPSTREAM)
def test_what_describes_a_request_its_client_and_its_trace_is_passed_on(name: str) -> None:
    """The allow-list, as it came."""
    sent = upstream_headers(((name, "true"),), "alice", KEY)

    assert sent[0] == (name, "true")


def test_a_backend_gets_the_gateways_credentials_and_no_others() -> None:
    """The caller's `api-key` gives way to the backend's."""
    caller = (("api-key", "callers"), ("authorization", "Bearer callers"))

    sent = upstream_headers(caller, "alice", KEY)

    assert [pair for pair in sent if pair[0] in {"api-key", "authorization"}] == [
        ("api-key", "key-of-a")
    ]


def test_the_callers_identity_header_is_overwritten() -> None:
    """Only the verified subject is sent on."""
    sent = upstream_headers((("caller-subject", "admin"),), "alice", KEY)

    assert [value for name, value in sent if name == "caller-subject"] == ["alice"]


def test_answers_are_asked_for_unencoded() -> None:
    """A compressed answer could not be metered on its way."""
    sent = upstream_headers((("accept-encoding", "gzip, br"),), "alice", KEY)

    assert [value for name, value in sent if name == "accept-encoding"] == ["identity"]


def test_other_headers_are_passed_on_in_order() -> None:
    """Repeated ones too."""
    caller = (("content-type", "a/b"), ("openai-a", "1"), ("openai-b", "2"), ("openai-a", "3"))

    sent = upstream_headers(caller, "alice", KEY)

    assert sent[:4] == caller


def test_headers_that_connection_names_are_dropped_both_ways() -> None:
    """RFC 9110 section 7.6.1; what the gateway adds itself cannot be named away."""
    named = ("connection", "OpenAI-Secret , caller-subject,close")
    headers = (named, ("openai-secret", "1"), ("openai-ok", "2"))

    sent = upstream_headers(headers, "alice", KEY)

    assert (header(sent, "openai-secret"), header(sent, "caller-subject")) == (None, "alice")
    assert downstream_headers(headers) == (("openai-ok", "2"),)


@pytest.mark.parametrize(
    ("value", "is_sent"),
    [
        ("0191-abc_DEF.1:2/3+4=", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a b", False),
        ("id\u00e9", False),
        ("<script>", False),
    ],
)
def test_a_client_request_id_is_passed_on_when_it_is_one(value: str, is_sent: bool) -> None:
    """Limited in length and characters."""
    sent = upstream_headers((("x-ms-client-request-id", value),), "alice", KEY)

    assert (header(sent, "x-ms-client-request-id") == value) is is_sent


@pytest.mark.parametrize(
    "name",
    [
        "x-request-id",
        "apim-request-id",
        "x-ms-request-id",
        "x-ms-client-request-id",
        "openai-model",
        "openai-processing-ms",
        "openai-version",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-limit-requests",
        "x-rate-limit-reset-tokens",
        "retry-after",
        "retry-after-ms",
        "policy-id",
        "content-type",
        "content-encoding",
        "content-disposition",
        "x-content-type-options",
        "x-accel-buffering",
        "x-ms-rai-invoked",
        "x-ms-error-code",
        "x-should-retry",
    ],
)
def test_what_sdks_and_operators_read_reaches_the_caller(name: str) -> None:
    """Azure's own headers, as they came."""
    assert downstream_headers(((name, "1"),)) == ((name, "1"),)


@pytest.mark.parametrize(
    "name",
    [
        "x-ms-region",
        "x-ms-deployment-name",
        "x-ms-spillover-from-deployment",
        "x-ms-spillover-error",
        "azureml-model-session",
        "azureml-model-deployment",
    ],
)
def test_where_an_answer_came_from_is_passed_on_only_when_that_is_exposed(name: str) -> None:
    """Regions and the backends' own deployment names are not the caller's to know."""
    answered = ((name, "1"),)

    assert downstream_headers(answered) == ()
    assert downstream_headers(answered, with_origin=True) == answered


@pytest.mark.parametrize(
    "name",
    [
        "location",
        "operation-location",
        "content-location",
        "set-cookie",
        "set-cookie2",
        "server",
        "x-powered-by",
        "via",
        "date",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "proxy-authenticate",
        "www-authenticate",
        "authorization",
        "api-key",
        "cache-control",
        "age",
        "expires",
        "etag",
        "pragma",
        "refresh",
        "link",
        "alt-svc",
        "clear-site-data",
        "strict-transport-security",
        "content-security-policy",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-expose-headers",
        "x-aml-cluster",
        "x-envoy-upstream-service-time",
        "total-tokens",
        "caller-subject",
        "x-meter-event-id",
        "x-meter-backend",
        "x-meter-error",
        "x-anything",
    ],
)
def test_no_other_header_of_a_backend_reaches_the_caller(name: str) -> None:
    """A backend can neither redirect callers, set cookies or CORS, nor speak for the gateway."""
    assert downstream_headers(((name, "1"),), with_origin=True) == ()


@pytest.mark.parametrize(
    "value", ["caf\u00e9", "\udcff", "a\x01", "a\tb", "\u20ac" * 9, "\x7f", "\x85"]
)
@pytest.mark.parametrize("name", ["x-request-id", "openai-x", "x-ms-region"])
def test_a_value_that_the_host_cannot_send_is_left_out(name: str, value: str) -> None:
    """One byte beyond printable ASCII makes an empty 500 of an answer that is charged already."""
    answered = ((name, value), ("content-type", "text/plain"))

    assert downstream_headers(answered, with_origin=True) == (("content-type", "text/plain"),)


@pytest.mark.parametrize(
    "name", ["openai-\u00e9", "openai-a b", "x-ratelimit-a:b", "azureml-model-\n"]
)
def test_a_name_that_is_no_token_is_left_out(name: str) -> None:
    """Likewise."""
    assert downstream_headers(((name, "1"),), with_origin=True) == ()


@given(lists(integers(0, 70_000), max_size=12))
def test_all_headers_together_stay_below_what_the_host_passes_on(lengths: list[int]) -> None:
    """The largest go first; the others stay, in their order, and ours fit beside them."""
    answered = tuple((f"openai-{number}", "x" * size) for number, size in enumerate(lengths))

    kept = downstream_headers(answered)

    sizes = [len(name) + len(value) + 4 for name, value in answered]
    left_out = [size for pair, size in zip(answered, sizes, strict=True) if pair not in kept]
    total = sum(sizes) - sum(left_out)
    assert total <= MAX_ANSWER_BYTES - 2_048
    assert list(kept) == [pair for pair in answered if pair in kept]
    if left_out:
        assert min(left_out) >= max((len(n) + len(v) + 4 for n, v in kept), default=0)
        assert total + min(left_out) > MAX_ANSWER_BYTES - 2_048


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("alice", "alice"),
        ("a b/c?d", "a b/c?d"),
        ("caf\u00e9", "caf%C3%A9"),
        (" lead", "%20lead"),
        ("trail ", "trail%20"),
        ("line\r\nx-evil: 1", "line%0D%0Ax-evil%3A%201"),
        ("nul\x00", "nul%00"),
        ("\U0001f600", "%F0%9F%98%80"),
        ("%20lead", "%2520lead"),
        ("caf%C3%A9", "caf%25C3%25A9"),
        ("100% a", "100%25%20a"),
        ("%", "%25"),
        (" ", "%20"),
        ("tab\tin", "tab%09in"),
        ("\x7f", "%7F"),
    ],
)
def test_a_subject_is_sent_plain_or_percent_encoded(subject: str, expected: str) -> None:
    """Plain ASCII as it is, anything else as percent-encoded UTF-8, so no header can be injected."""
    assert subject_header(subject) == expected


def test_the_longest_encoded_subject_reads_back() -> None:
    """255 characters of any kind."""
    subject = "\U0001f600" * 255

    assert unquote(subject_header(subject)) == subject


@given(SUBJECTS, SUBJECTS)
@example(" a", "%20a")
@example("caf\u00e9", "caf%C3%A9")
def test_no_two_subjects_look_alike(one: str, other: str) -> None:
    """A backend's log tells apart whom the ledger tells apart."""
    assert unquote(subject_header(one)) == one
    assert (subject_header(one) == subject_header(other)) is (one == other)


@pytest.mark.parametrize("name", ["x-functions-key", "x-real-ip", "true-client-ip", "x-client-ip"])
def test_the_hosts_key_and_forwarding_headers_stay_here(name: str) -> None:
    """`x-functions-key` opens the function app; the others are forwarding headers."""
    assert header(upstream_headers(((name, "x"),), "alice", ()), name) is None


@pytest.mark.parametrize("value", ["x" * 129, "a b", "caf\u00e9"])
def test_a_request_id_of_a_caller_is_bounded(value: str) -> None:
    """Request ids end up in the backend's logs: short and plain, or left out."""
    sent = upstream_headers((("x-request-id", value),), "alice", ())

    assert header(sent, "x-request-id") is None


@pytest.mark.parametrize(
    ("headers", "is_over"),
    [
        ((("a", "b"),) * 3, False),
        ((("a", "b"),) * 4, True),
        ((("a", "b" * 9),), False),
        ((("a", "b" * 10),), True),
    ],
)
def test_headers_are_bounded_in_number_and_size(headers: Headers, is_over: bool) -> None:
    """At most so many, and at most so many bytes of names and values together."""
    limits = request_limits(max_headers=3, max_header_bytes=10)

    with pytest.raises(TooLarge) if is_over else nullcontext():
        request(headers=headers).check_headers(limits)


PARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
STATE = ("tracestate", "vendor=1")


def test_a_valid_trace_goes_on_as_it_is() -> None:
    """Untouched, whatever its state says."""
    caller = (("accept", "*/*"), PARENT, STATE, ("tracestate", "other=2"))

    assert traced(caller, by_name(caller)) == caller


@pytest.mark.parametrize(
    "parents",
    [(), (("traceparent", "00-x"),), (PARENT, PARENT), (PARENT, ("traceparent", "00-x"))],
    ids=["none", "invalid", "two", "an invalid one more"],
)
def test_without_one_valid_parent_there_is_no_trace(parents: tuple[tuple[str, str], ...]) -> None:
    """A state without its parent means nothing; other headers stay."""
    caller = (("accept", "*/*"), *parents, STATE)

    assert traced(caller, by_name(caller)) == (("accept", "*/*"),)
