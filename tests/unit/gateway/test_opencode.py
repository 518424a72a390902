"""What OpenCode is told is public, as it was set, and absent unless it is set."""

import json

import pytest

from meter.gateway.http import Answer
from meter.gateway.opencode import PATH, opencode_of, opencode_problem
from meter.gateway.request.dispatch import Dispatcher
from meter.gateway.request.route import Routes
from meter.gateway.request.spelling import Spellings
from tests.support.gateway import Door, bearer, door, error_of, headers_of

DOCUMENT = {
    "auth": {"command": ["az", "account", "get-access-token"], "env": "GATEWAY_TOKEN"},
    "config": {"provider": {"gateway": {"options": {"apiKey": "{env:GATEWAY_TOKEN}"}}}},
}


def publishing() -> Door:
    made = door()
    routes = Routes(Spellings(("/corp/team",)))
    made.front_door.dispatcher = Dispatcher(routes=routes, opencode=opencode_of(DOCUMENT))
    return made


async def asked(made: Door, method: str = "GET", path: str = PATH) -> Answer:
    answer = await made.call(b"", path=path, query="", method=method, headers=())
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize("path", [PATH, f"/corp/team{PATH}"])
async def test_the_document_needs_no_token(path: str) -> None:
    """OpenCode asks for it before it has one, below the address that its user gave."""
    answer = await asked(publishing(), path=path)

    assert (answer.status, json.loads(answer.body)) == (200, DOCUMENT)
    assert headers_of(answer)["content-type"] == "application/json"
    assert headers_of(answer)["cache-control"] == "no-store"
    assert len(headers_of(answer)["x-meter-event-id"]) == 36


async def test_a_call_for_the_document_is_no_event() -> None:
    """It reaches no backend and costs nothing."""
    made = publishing()
    await asked(made)

    assert made.sink.events == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_without_the_setting_nothing_is_there(method: str) -> None:
    """404, not 401: no token would help."""
    answer = await asked(door(), method)

    assert (answer.status, headers_of(answer)["x-meter-error"]) == (404, "not_found")
    assert "no configuration for OpenCode" in str(error_of(answer)["message"])


async def test_only_reading_methods_are_accepted() -> None:
    """As at the other addresses that need no token."""
    options, head = await asked(publishing(), "OPTIONS"), await asked(publishing(), "HEAD")
    post = await asked(publishing(), "POST")

    assert (options.status, head.status, post.status) == (204, 200, 405)
    assert headers_of(options)["allow"] == headers_of(post)["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "path",
    [f"/other{PATH}", f"{PATH}/", f"{PATH}/x", f"/{PATH}", f"/CORP/team{PATH}", "/.well-known/x"],
)
async def test_no_other_address_is_public(path: str) -> None:
    """A token is asked for first, and then there is nothing."""
    made = publishing()
    unknown = await asked(made, path=path)
    known = await made.call(b"", path=path, query="", method="GET", headers=bearer())

    assert (unknown.status, known.status) == (401, 404)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (DOCUMENT, None),
        ({**DOCUMENT, "more": 1}, None),
        ([], "must be"),
        (None, "must be"),
        ("{}", "must be"),
        ({"config": {}}, "must be"),
        ({"auth": DOCUMENT["auth"]}, "must be"),
        ({"auth": {"command": "az", "env": "T"}, "config": {}}, "needs auth.command"),
        ({"auth": {"command": [], "env": "T"}, "config": {}}, "needs auth.command"),
        ({"auth": {"command": ["az", 1], "env": "T"}, "config": {}}, "needs auth.command"),
        ({"auth": {"command": ["az", ""], "env": "T"}, "config": {}}, "needs auth.command"),
        ({"auth": {"command": ["az"]}, "config": {}}, "needs auth.env"),
        ({"auth": {"command": ["az"], "env": "a-b"}, "config": {}}, "needs auth.env"),
    ],
)
def test_a_document_that_opencode_could_not_use_is_a_problem(
    document: object, problem: str | None
) -> None:
    """It runs the command and puts what that prints into the variable."""
    found = opencode_problem(document)

    assert (found is None) if problem is None else (found or "").startswith(problem)
