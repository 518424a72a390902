"""What is answered without a backend: other methods, the list of models, what is not served."""

import json
import logging
from copy import replace

import pytest

from meter.gateway.backend import Backend, Deployment
from meter.gateway.http import Answer
from meter.gateway.request import dispatch
from meter.gateway.request.operations import NOT_SERVED
from tests.fakes.gateway import FakeUpstream, json_answer
from tests.support.gateway import SERVED, Door, backend, bearer, door, error_of, headers_of

MODEL = {"id": "gpt", "object": "model", "created": 0, "owned_by": "azure-openai"}


def two_models() -> Door:
    both = Backend(
        name="b",
        url="https://b.example",
        deployments={"gpt": Deployment("g"), "embed": Deployment("e")},
    )
    return Door(FakeUpstream({}), [backend("a", own="gpt-eu"), both])


async def ask(made: Door, method: str, path: str, query: str = "") -> Answer:
    answer = await made.call(b"", path=path, method=method, query=query)
    assert isinstance(answer, Answer)
    return answer


def untouched(made: Door) -> bool:
    """Whether nobody was asked, nothing was counted and nothing is held."""
    return made.is_idle and not made.sink.events and not made.upstream.requests


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/openai/deployments/gpt/chat/completions", "POST, OPTIONS"),
        ("/openai/v1/audio/speech", "POST, OPTIONS"),
        ("/openai/v1/responses", "POST, OPTIONS"),
        ("/openai/v1/responses/resp_1", "GET, DELETE, HEAD, OPTIONS"),
        ("/openai/responses/resp_1/cancel", "POST, OPTIONS"),
        ("/openai/v1/responses/resp_1/input_items", "GET, HEAD, OPTIONS"),
        ("/openai/models", "GET, HEAD, OPTIONS"),
    ],
)
@pytest.mark.parametrize("query", ["", "api-version=1", "\u00e9"])
async def test_options_names_the_methods_of_an_address(path: str, allowed: str, query: str) -> None:
    """204 without a body (RFC 9110 section 9.3.7), and nobody is asked."""
    made = door()

    answer = await ask(made, "OPTIONS", path, query)

    assert (answer.status, answer.body) == (204, b"")
    assert headers_of(answer).keys() == {"allow", "x-meter-event-id", "cache-control"}
    assert headers_of(answer)["allow"] == allowed
    assert untouched(made)


async def test_options_needs_a_token_too() -> None:
    """Strangers learn nothing of what is served."""
    assert (await door().call(method="OPTIONS", headers=())).status == 401


async def test_options_of_what_is_not_served_is_not_found() -> None:
    """404 as for any method."""
    assert (await ask(door(), "OPTIONS", "/openai/files")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/openai/v1/chat/completions", "POST, OPTIONS"),
        ("HEAD", "/openai/v1/chat/completions", "POST, OPTIONS"),
        ("POST", "/openai/v1/responses/resp_1", "GET, DELETE, HEAD, OPTIONS"),
        ("DELETE", "/openai/v1/models/gpt", "GET, HEAD, OPTIONS"),
        ("GET", "/openai/responses/resp_1/cancel", "POST, OPTIONS"),
        ("get", "/openai/models", "GET, HEAD, OPTIONS"),
    ],
)
async def test_another_method_is_told_which_ones_there_are(
    method: str, path: str, allowed: str
) -> None:
    """405 with `Allow` (RFC 9110 section 15.5.6), in the shape the SDK reads."""
    made = door()

    answer = await ask(made, method, path)

    assert (answer.status, headers_of(answer)["allow"]) == (405, allowed)
    assert error_of(answer)["type"] == "invalid_request_error"
    assert untouched(made)


@pytest.mark.parametrize("path", ["/openai/models", "/openai/v1/models"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_models_are_the_deployments_that_can_be_called(path: str, method: str) -> None:
    """By their public names, each once, in order; the gateway's own answer, and no event."""
    made = two_models()

    answer = await ask(made, method, path)

    listed = json.loads(answer.body)
    assert (answer.status, listed["object"]) == (200, "list")
    assert listed["data"] == [{**MODEL, "id": "embed"}, MODEL]
    assert untouched(made)


async def test_one_model_is_one_of_them() -> None:
    """As clients ask before they call."""
    made = two_models()

    answer = await ask(made, "GET", "/openai/v1/models/gpt")

    assert (answer.status, json.loads(answer.body)) == (200, MODEL)
    assert untouched(made)


@pytest.mark.parametrize("name", ["gpt-eu", "g", "GPT", "resp_1"])
async def test_a_backends_own_name_is_no_model(name: str) -> None:
    """What cannot be called does not exist here."""
    answer = await ask(two_models(), "GET", f"/openai/v1/models/{name}")

    assert (answer.status, error_of(answer)["code"]) == (404, "model_not_found")
    assert name in str(error_of(answer)["message"])


async def test_models_are_listed_also_when_all_places_are_taken() -> None:
    """They take none."""
    made = door(max_concurrent_calls=1)
    made.front_door.admission.slots.holding("bob").grow(1)

    assert (await ask(made, "GET", "/openai/v1/models")).status == 200


PREFIXES = ["/openai/", "/openai/v1/", "/openai/deployments/gpt/"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", sorted(NOT_SERVED))
@pytest.mark.parametrize("rest", ["", "/x_1", "/x_1/y/z"])
async def test_a_family_that_is_not_relayed_is_named(prefix: str, family: str, rest: str) -> None:
    """404 that says what is served, so that nobody searches for a typing error."""
    made = door()

    answer = await ask(made, "POST", f"{prefix}{family}{rest}")

    message = str(error_of(answer)["message"])
    assert (answer.status, error_of(answer)["code"]) == (404, "404")
    assert message.startswith(f"{NOT_SERVED[family]} is not served here. ")
    assert "chat/completions" in message
    assert untouched(made)


@pytest.mark.parametrize(
    "path", ["/", "/openai", "/openai/v1/filesystem", "/x/files", "/openai/v1/%66iles"]
)
async def test_what_is_no_family_is_just_not_found(path: str) -> None:
    """The same text without a name."""
    answer = await ask(door(), "POST", path)

    assert str(error_of(answer)["message"]).startswith("Resource not found. ")


@pytest.mark.parametrize(
    ("path", "upstream_path"),
    [
        (
            "/openai/deployments/gpt/images/generations",
            "/openai/deployments/own/images/generations",
        ),
        ("/openai/deployments/gpt/audio/speech", "/openai/deployments/own/audio/speech"),
        (
            "/openai/deployments/gpt/audio/translations",
            "/openai/deployments/own/audio/translations",
        ),
        ("/openai/v1/images/edits", "/openai/v1/images/edits"),
        ("/openai/v1/audio/transcriptions", "/openai/v1/audio/transcriptions"),
    ],
)
async def test_each_operation_is_asked_for_at_its_own_address(
    path: str, upstream_path: str
) -> None:
    """With the backend's own name for the deployment, in the path or in the body."""
    made = Door(FakeUpstream({"a": [json_answer(200, SERVED)]}), [backend(own="own")])

    answer = await made.call(b'{"model":"gpt"}', path=path, query="api-version=1")

    assert answer.status == 200
    assert made.upstream.requests[0].url == f"https://a.example{upstream_path}?api-version=1"
    assert json.loads(made.upstream.bodies[0]) == {"model": "own"}
    assert made.sink.events[0].operation == "/".join(path.split("/")[-2:])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/openai/v1", "/openai/v1/", "/openai", "/anthropic/api/hello"])
async def test_whoever_looks_whether_something_is_there_makes_no_noise(
    method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Agents ask base paths at their start, without a credential: 401, and 404 with one; no line."""
    caplog.set_level(logging.DEBUG, logger="meter")
    answers = [await door().call(b"", method=method, path=path, headers=h) for h in ((), bearer())]

    assert [answer.status for answer in answers] == [401, 404]
    assert caplog.records == []


async def test_a_line_that_was_served_before_is_judged_as_a_new_one() -> None:
    """Its token, its body's encoding, and whether its deployment is still served."""
    made = door(json_answer(200, SERVED), json_answer(200, SERVED))
    served = [(await made.answer()).status for _ in range(2)]

    packed = await made.answer(headers=(*bearer(), ("content-encoding", "gzip")))
    unknown = await made.answer(headers=())
    made.pool.replace([replace(backend(), deployments={"other": Deployment("other")})])
    gone = await made.answer()

    assert (served, packed.status, unknown.status, gone.status) == ([200, 200], 415, 401, 404)


async def test_no_more_lines_are_remembered_than_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers name stored responses as they like."""
    monkeypatch.setattr(dispatch, "MAX_CACHED_ROUTES", 2)
    made = door()
    for number in range(5):
        await ask(made, "DELETE", f"/openai/v1/responses/resp_{number}")

    assert len(made.front_door.dispatcher._to_backends) <= 2
