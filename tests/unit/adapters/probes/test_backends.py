"""The request of `doctor` to a backend, and what is kept of the answer."""

import socket

import pytest

from meter.adapters.probes.backends import BackendProbe
from meter.doctor.answers import Answered, Fault, NoAnswer, NoToken
from meter.doctor.backends import BackendAnswer, Probed
from meter.doctor.basics import Offsets
from meter.errors import UpstreamError, UpstreamUnreachable
from tests.fakes.gateway import FakeAnswer, FakeClock, FakeCredentials, FakeUpstream, json_answer

GPT = Probed(backend="a", deployment="gpt", has_key=True)
NOT_FOUND = b'{"error": {"code": "DeploymentNotFound", "message": "It does not exist."}}'
FLAT = b'{"statusCode": 401, "message": "Unauthorized."}'


async def asked(
    answer: FakeAnswer | UpstreamError, offsets: Offsets | None = None
) -> tuple[BackendAnswer, FakeUpstream]:
    upstream = FakeUpstream({"a": [answer]})
    probe = BackendProbe(
        upstream, FakeCredentials(), clock=FakeClock(), offsets=offsets or Offsets()
    )
    return await probe.ask(GPT, "https://a.example"), upstream


async def test_an_empty_chat_is_sent_with_our_credentials() -> None:
    """To the deployment's own address: nothing to bill."""
    _, upstream = await asked(json_answer(400, b"{}"))
    (sent,) = upstream.requests

    assert (sent.method, sent.body) == ("POST", b"{}")
    assert sent.url.startswith("https://a.example/openai/deployments/gpt/chat/completions?")
    assert {"content-type", "api-key"} <= set(dict(sent.headers))


@pytest.mark.parametrize(
    ("body", "answered"),
    [
        (NOT_FOUND, Answered(404, "DeploymentNotFound", "It does not exist.")),
        (FLAT, Answered(404, "", "Unauthorized.")),
        (b"<html>proxy</html>", Answered(404, "", "<html>proxy</html>")),
        (b"[]", Answered(404, "", "[]")),
        (b'{"error": "text"}', Answered(404, "", "text")),
        (b'{"error": {"code": 7, "message": null}}', Answered(404, "7")),
        (b'{"statusCode": 401, "message": "No key."}', Answered(404, "", "No key.")),
    ],
)
async def test_an_error_is_read_in_any_form(body: bytes, answered: Answered) -> None:
    """A proxy's page is no JSON."""
    found, _ = await asked(json_answer(404, body))

    assert found == answered


async def test_an_answer_that_repeats_our_key_is_not_shown() -> None:
    """Its status is enough."""
    key = dict(await FakeCredentials().headers_for("a"))["api-key"]
    body = f'{{"error": {{"code": "401", "message": "bad key {key}"}}}}'.encode()
    found, _ = await asked(json_answer(401, body))

    assert found == Answered(401)


async def test_a_backend_that_is_not_reached_says_why() -> None:
    """By the cause that the client has kept."""
    error = UpstreamUnreachable("a")
    error.__cause__ = socket.gaierror()
    found, _ = await asked(error)

    assert found == NoAnswer(Fault.DNS)


async def test_without_a_token_nothing_is_sent() -> None:
    """The identity gave none."""

    upstream = FakeUpstream({})
    probe = BackendProbe(
        upstream, FakeCredentials(frozenset({"a"})), clock=FakeClock(), offsets=Offsets()
    )

    assert await probe.ask(GPT, "https://a.example") == NoToken()
    assert upstream.requests == []


async def test_the_clock_is_learned_from_the_date() -> None:
    """A `Date` that cannot be read says nothing."""
    offsets, other = Offsets(), Offsets()
    now = FakeClock().now()
    date = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    await asked(json_answer(400, b"{}", ("date", date)), offsets)
    await asked(json_answer(400, b"{}", ("date", "soon")), other)

    assert abs(offsets.by_server["a"]) <= 1
    assert other.by_server == {}
