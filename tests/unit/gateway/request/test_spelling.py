"""Clients' spellings of an address are read as the address, and nothing else is."""

import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from, text

from meter.errors import BadRequest, MethodNotAllowed, NotServed
from meter.gateway.request.operations import TABLE, Place, Served
from meter.gateway.request.route import Routes
from meter.gateway.request.spelling import Spellings
from tests.fakes.gateway import json_answer
from tests.support.gateway import bearer, door

DATED = "api-version=2025-04-01-preview"
PREFIXES = ("/corp", "/corp/team", "/corp/openai", "/api/projects/p.1")
ROUTES = Routes(Spellings(PREFIXES))
V1_CHAT = "/openai/v1/chat/completions"
CLASSIC_CHAT = "/openai/deployments/gpt/chat/completions"


def canonical(path: str, query: str = "", *, method: str = "POST", routes: Routes = ROUTES) -> str:
    """The path and query at a backend."""
    return routes.route(method, path, query).upstream_path("own")


@pytest.mark.parametrize(
    ("path", "query", "backend"),
    [
        ("/openai/chat/completions", "", V1_CHAT),
        ("/openai/embeddings", "", "/openai/v1/embeddings"),
        ("/openai/responses", "", "/openai/v1/responses"),
        ("/openai/responses", "api-version=", "/openai/v1/responses?api-version="),
        ("/openai/audio/speech", "x=1", "/openai/v1/audio/speech?x=1"),
        ("/openai/responses/compact", "", "/openai/v1/responses/compact"),
        ("/openai/chat/completions", "api-version=v1", f"{V1_CHAT}?api-version=v1"),
        ("/openai/chat/completions", "api-version=preview", f"{V1_CHAT}?api-version=preview"),
        ("/openai/responses", "api-version=preview", "/openai/responses?api-version=preview"),
        ("/openai/responses", DATED, f"/openai/responses?{DATED}"),
        ("/responses/compact", "", "/openai/v1/responses/compact"),
        ("/responses/input_tokens", "", "/openai/v1/responses/input_tokens"),
        ("/corp/team/responses/compact", "", "/openai/v1/responses/compact"),
        ("/openai/deployments/gpt/responses", DATED, "/openai/v1/responses"),
        ("/openai/deployments/gpt/responses", "", "/openai/v1/responses"),
        ("/openai//deployments/gpt/responses/", DATED, "/openai/v1/responses"),
        ("/openai//v1//chat/completions", "", V1_CHAT),
        ("/openai/v1//chat/completions", "", V1_CHAT),
        ("/corp/team//openai/v1/chat/completions", "", V1_CHAT),
        ("/corp/team//openai//v1//chat/completions/", "", V1_CHAT),
        ("/corp/openai/v1/chat/completions", "", V1_CHAT),
        ("/corp/openai/openai/v1/chat/completions", "", V1_CHAT),
        ("/api/projects/p.1/openai/v1/chat/completions", "", V1_CHAT),
        (
            "/corp/team/openai/deployments/gpt/chat/completions",
            DATED,
            f"/openai/deployments/own/chat/completions?{DATED}",
        ),
    ],
)
def test_a_spelling_reaches_the_backend_as_the_address(path: str, query: str, backend: str) -> None:
    """The query is passed on as it was sent, but for a deployment's responses, which v1 has without."""
    assert canonical(path, query) == backend


@pytest.mark.parametrize("prefix", ["", "/corp/team", "/corp/team/"])
@pytest.mark.parametrize("served", TABLE, ids=lambda served: served.operation.value)
def test_each_operation_takes_one_trailing_slash(served: Served, prefix: str) -> None:
    """In each of its addresses, and no second one."""
    tail = served.tail.replace("{id}", "resp_1")
    paths = [f"/openai/v1/{tail}", served.place.value.format(deployment="own") + tail]
    if prefix.endswith("/"):
        paths = [path for path in paths if path.startswith("/openai/")]
    for path in paths:
        spelt = f"{prefix}{path}/"
        assert canonical(spelt, DATED, method=served.method) == f"{path}?{DATED}"
        with pytest.raises(NotServed):
            ROUTES.route(served.method, f"{spelt}/", DATED)


@pytest.mark.parametrize("served", TABLE, ids=lambda served: served.operation.value)
def test_an_address_without_v1_and_version_is_one_of_v1(served: Served) -> None:
    """Of every operation; with a date only those stay that have such an address."""
    tail = served.tail.replace("{id}", "resp_1")

    assert canonical(f"/openai/{tail}", method=served.method) == f"/openai/v1/{tail}"
    if served.place is Place.BY_DEPLOYMENT:
        with pytest.raises(NotServed, match=r"/openai/deployments/{deployment}/"):
            ROUTES.route(served.method, f"/openai/{tail}", DATED)
    else:
        assert canonical(f"/openai/{tail}", DATED, method=served.method).startswith(
            "/openai/" + tail
        )


@pytest.mark.parametrize(
    "path",
    [
        "//openai/v1/chat/completions",
        "//corp/team/openai/v1/chat/completions",
        "/corp//team/openai/v1/chat/completions",
        "/corp/team///openai/v1/chat/completions",
        "/openai///v1/chat/completions",
        "/openai/v1///chat/completions",
        "/openai/v1/chat//completions",
        "/openai/v1/chat/completions//",
        "/openai/deployments//gpt/chat/completions",
        "/corp/team//responses/compact",
        "/corp/teams/openai/v1/chat/completions",
        "/corp/team2/openai/v1/chat/completions",
        "/corp/tea/openai/v1/chat/completions",
        "/CORP/team/openai/v1/chat/completions",
        "/corp/Team/openai/v1/chat/completions",
        "/corp/team/corp/team/openai/v1/chat/completions",
        "/corp/te%61m/openai/v1/chat/completions",
        "/corp/./team/openai/v1/chat/completions",
        "/corp/x/../team/openai/v1/chat/completions",
        "/corp/team/../openai/v1/chat/completions",
        "/corp/team;v=1/openai/v1/chat/completions",
        "/corp/team%2Fopenai/v1/chat/completions",
        "/corp/team\\openai/v1/chat/completions",
        "/api/projects/pX1/openai/v1/chat/completions",
        "/corp/team",
        "/corp/team/",
        "/corp/team/openai",
        "/corp/team/healthz",
        "/openai/v1",
        "/openai/v1/",
        "/openai/",
        "/OpenAI/v1/chat/completions",
        "/openai/V1/chat/completions",
        "/openai/v1/openai/v1/chat/completions",
        "/openai/v1/deployments/gpt/responses",
        "/openai/deployments/gpt/v1/responses",
        "/openai/deployments/gpt/responses/compact",
        "/openai/deployments/gpt/responses/resp_1",
        "/openai/deployments/../responses",
        "/openai/deployments/g%70t/responses",
        "/responses",
        "/responses/resp_1",
        "/responses/compact/x",
        "/responses//compact",
        "/v1/chat/completions",
        "/chat/completions",
    ],
)
def test_no_other_spelling_is_read(path: str) -> None:
    """Each doubt would be another way around what stands in front of the gateway."""
    for query in ("", DATED):
        with pytest.raises(NotServed) as refused:
            ROUTES.route("POST", path, query)
        assert f"You asked for {path!r}" in refused.value.message


def test_without_prefixes_there_are_none() -> None:
    """Not even an empty one."""
    for path in ("/corp/openai/v1/chat/completions", "//openai/v1/chat/completions"):
        with pytest.raises(NotServed):
            Routes().route("POST", path, "")


@given(
    prefixes=lists(
        lists(sampled_from(["a", "b", "openai", "v1"]), min_size=1, max_size=3), max_size=4
    ),
    segments=lists(sampled_from(["a", "b", "openai", "v1", "responses", ""]), max_size=7),
)
def test_a_path_is_read_as_one_reads_it_by_hand(
    prefixes: Sequence[Sequence[str]], segments: Sequence[str]
) -> None:
    """The rules once more, as simply as they can be said, with prefixes that begin each other."""
    named = tuple("/" + "/".join(prefix) for prefix in prefixes)
    path = "/" + "/".join(segments)
    routes = Routes(Spellings(named))
    rests = [path, *(path[len(name) :] for name in named if path.startswith(f"{name}/"))]
    within = [rest.removeprefix("/") if rest.startswith("//openai") else rest for rest in rests[1:]]
    is_known = any(
        re.fullmatch(r"/openai//?(v1//?)?responses/?", rest) is not None for rest in [path, *within]
    )

    try:
        found = canonical(path, routes=routes)
    except NotServed:
        found = ""

    assert found == ("/openai/v1/responses" if is_known else "")


@given(path=text(alphabet="/openaiv1corpteam.%2Fdeploymentsresponses\\", max_size=60))
def test_whatever_is_sent_is_read_or_refused(path: str) -> None:
    """What reaches a backend is one of a few forms."""
    try:
        found = canonical(f"/{path}", DATED)
    except (NotServed, MethodNotAllowed):
        return
    assert found.startswith("/openai/")
    assert "//" not in found
    assert ".." not in found


def test_a_long_path_is_refused_as_fast_as_it_is_read() -> None:
    """As long as the server takes, and built for a pattern that goes back and forth."""
    prefixes = tuple(f"/{'a/' * n}a" for n in range(50))
    routes = Routes(Spellings(prefixes))
    started = time.process_time()

    for path in ("/a" * 4_096, "/openai" * 1_170, "/openai/v1/" + "a/" * 4_090, "/" * 8_192):
        with pytest.raises(NotServed):
            routes.route("POST", path, "")

    assert time.process_time() - started < 1


def test_the_query_is_bounded_in_each_spelling() -> None:
    """Also where it is not passed on."""
    for path in ("/openai/responses", "/openai/deployments/gpt/responses"):
        with pytest.raises(BadRequest):
            ROUTES.route("POST", path, "a" * 2049)


def test_a_spelling_tells_the_methods_of_its_address() -> None:
    """What OPTIONS and a 405 say."""
    assert ROUTES.methods("/corp/team//openai/models/", "") == ("GET", "HEAD", "OPTIONS")
    with pytest.raises(MethodNotAllowed):
        ROUTES.route("GET", "/openai/deployments/gpt/responses", DATED)


@pytest.mark.parametrize("named", [b'{"model":"other"}', b'{"input":"x"}', b'{"model":7}', b"{}"])
async def test_a_deployments_responses_name_it_in_the_body(named: bytes) -> None:
    """Whatever stood there: v1 has the deployment in the body alone, and the event has the same."""
    made = door(json_answer(200, b'{"id":"resp_1","object":"response"}'))
    await made.call(named, path="/openai/deployments/gpt/responses", query=DATED)

    sent = made.upstream.requests[0]
    assert sent.url == "https://a.example/openai/v1/responses"
    assert b'"model":"gpt"' in made.upstream.bodies[0]
    event = made.sink.events[0]
    assert (event.operation, event.deployment, event.api_version) == ("responses", "gpt", None)


async def test_an_unknown_deployment_in_that_address_is_not_found() -> None:
    """404 before a byte of the body is read."""
    made = door()
    answer = await made.call(b"", path="/openai/deployments/none/responses", headers=bearer())

    assert (answer.status, made.upstream.requests) == (404, [])
