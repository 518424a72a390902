"""The image tool of Responses: which deployment draws is the configuration's to say."""

import pytest

from meter.gateway.backend import Backend, Deployment
from meter.gateway.headers import header
from tests.fakes.gateway import FakeAnswer, FakeUpstream, json_answer
from tests.support.gateway import (
    CHAT_PATH,
    SERVED,
    V1_RESPONSES_PATH,
    Door,
    backend,
    bearer,
    error_of,
    headers_of,
)

NAMED = "x-ms-oai-image-generation-deployment"
BODY = b'{"model":"gpt","input":"draw","tools":[{"type":"image_generation"}]}'


def drawing(name: str, **images: str) -> Backend:
    """A backend of `gpt` and of these image deployments, under its own names."""
    names = {public.replace("_", "-"): own for public, own in images.items()}
    own = {public: Deployment(own) for public, own in ({"gpt": "gpt"} | names).items()}
    return Backend(name=name, url=f"https://{name}.example", deployments=own)


def made(*backends: Backend) -> Door:
    answers: dict[str, list[FakeAnswer]] = {each.name: [served()] for each in backends}
    return Door(FakeUpstream(answers), list(backends))  # type: ignore[arg-type]  # no errors


def served() -> FakeAnswer:
    return json_answer(200, SERVED)


def asking(*names: str) -> tuple[tuple[str, str], ...]:
    return (*bearer(), *((NAMED, name) for name in names))


@pytest.mark.parametrize("path", [V1_RESPONSES_PATH, "/openai/responses"])
async def test_its_deployment_is_sent_by_the_backends_own_name(path: str) -> None:
    """Azure needs the header; the name in it is this account's."""
    door = made(drawing("a", image_1="my-image"))

    answer = await door.call(BODY, path=path, headers=asking("image-1"))

    assert answer.status == 200
    assert header(door.upstream.requests[0].headers, NAMED) == "my-image"
    assert [name for name, _ in door.upstream.requests[0].headers].count(NAMED) == 1


async def test_a_backend_that_cannot_draw_is_not_asked() -> None:
    """Whoever is tried next has both deployments, each under its own name."""
    backends = [backend("a"), drawing("b", image_1="b-image"), drawing("c", image_1="c-image")]
    door = made(*backends)
    door.upstream.script["b"] = [json_answer(500, b"{}")]
    door.upstream.script["c"] = [json_answer(500, b"{}")]

    await door.call(BODY, path=V1_RESPONSES_PATH, headers=asking("image-1"))

    sent = {each.backend: header(each.headers, NAMED) for each in door.upstream.requests}
    assert sent == {"b": "b-image", "c": "c-image"}


@pytest.mark.parametrize("name", ["other", "my-image", "gpt/../x", "", "a b", "x" * 65])
async def test_an_unknown_deployment_is_named(name: str) -> None:
    """404 before any backend is asked; a backend's own name is unknown here."""
    door = made(drawing("a", image_1="my-image"))

    answer = await door.call(BODY, path=V1_RESPONSES_PATH, headers=asking(name))

    assert (answer.status, error_of(answer)["code"]) == (404, "DeploymentNotFound")
    assert f"'{name}'" in str(error_of(answer)["message"])
    assert headers_of(answer)["x-meter-error"] == "deployment"
    assert door.upstream.requests == []
    assert door.is_idle


async def test_two_deployments_are_ambiguous() -> None:
    """400: Azure and the gateway might take different ones. The same one twice is one."""
    door = made(drawing("a", image_1="my-image"))

    two = await door.call(BODY, path=V1_RESPONSES_PATH, headers=asking("image-1", "other"))
    twice = await door.call(BODY, path=V1_RESPONSES_PATH, headers=asking("image-1", "image-1"))

    assert (two.status, twice.status) == (400, 200)


async def test_other_operations_have_no_image_tool() -> None:
    """There the header means nothing, and is not passed on."""
    door = made(drawing("a", image_1="my-image"))

    answer = await door.call(BODY, path=CHAT_PATH, headers=asking("unknown"))

    assert answer.status == 200
    assert header(door.upstream.requests[0].headers, NAMED) is None
