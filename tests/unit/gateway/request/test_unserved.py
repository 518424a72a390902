"""A 404 says what was asked and what was probably meant."""

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from, text

from meter.errors import MethodNotAllowed, NotServed
from meter.gateway.request.route import Routes
from meter.gateway.request.unserved import not_served

WORDS = ["openai", "v1", "deployments", "gpt", "chat", "completions", "responses", "resp_1", ""]
CLASSIC = "/openai/deployments/gpt/chat/completions"
V1 = "/openai/v1/chat/completions"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/v1/chat/completions", [V1]),
        ("/chat/completions", [V1]),
        ("/openai/v1/chat/completions/", [V1]),
        ("/openai/v1/v1/chat/completions", [V1]),
        ("/openai/v1/openai/v1/chat/completions", [V1]),
        ("/openai/V1/Chat/Completions", [V1]),
        ("/api/projects/p/openai/v1/chat/completions", [V1]),
        ("/openai/v1//chat/completions", [V1]),
        ("/openai/v1/chat%2Fcompletions", [V1]),
        ("/openai/v1/chat%252Fcompletions", [V1]),
        ("/openai/chat/completions", ["/openai/deployments/{deployment}/chat/completions", V1]),
        ("//openai/deployments/gpt/chat/completions", [CLASSIC, V1]),
        ("/openai//deployments/gpt/chat/completions", [CLASSIC, V1]),
        ("/openai/openai/deployments/gpt/chat/completions", [CLASSIC, V1]),
        ("/openai/deployments/gpt/chat/completions/", [CLASSIC, V1]),
        ("/openai/deployments/gpt/responses", ["/openai/responses", "/openai/v1/responses"]),
        ("/responses/compact", ["/openai/v1/responses/compact"]),
        ("/models/chat/completions", [V1]),
        ("/models/embeddings", ["/openai/v1/embeddings"]),
        ("/v1/responses/resp_1/cancel", ["/openai/v1/responses/resp_1/cancel"]),
        ("//openai/models", ["/openai/models", "/openai/v1/models"]),
    ],
)
def test_what_was_probably_meant_is_named(asked: str, meant: list[str]) -> None:
    """Doubled, missing and misspelt prefixes, trailing and double slashes, other case, encoding."""
    text = f"Resource not found. You asked for '{asked}'; did you mean {' or '.join(meant)}?"

    assert not_served(asked).message.startswith(text)


@pytest.mark.parametrize(
    ("asked", "family"),
    [
        ("/openai/files", "The Files API"),
        ("/openai//files", "The Files API"),
        ("/v1/files/file-1", "The Files API"),
        ("/openai/evals%2Feval_1%2Fruns", "The Evaluation API"),
        ("/openai/evals%252Feval_1%252Fruns", "The Evaluation API"),  # as the host passes it on
        ("/anthropic/v1/messages", "The Messages API"),
        ("/openai/v1/chat/completions/chatcmpl-1", "The API of stored chat completions"),
        ("/openai/images/generations:submit", "The asynchronous image API"),
        ("/openai/operations/images/op1", "The asynchronous image API"),
        ("/openai/deployments/d/images/variations", "The Image Variations API"),
        ("/openai/v1/skills", "The Skills API"),
        ("/openai/v1/threads/t/responses", "The Assistants API"),
        ("/openai/deployments/gpt/moderations", "The Moderations API"),
    ],
)
def test_a_family_is_named_however_it_is_spelt(asked: str, family: str) -> None:
    """What is not served under any spelling has no suggestion."""
    message = not_served(asked).message

    assert f"{family} is not served here." in message
    assert f"You asked for '{asked}'." in message
    assert "did you mean" not in message


def test_each_list_names_the_prefix_under_which_it_is_served() -> None:
    """Responses are not under a deployment, chat completions not under /openai/ alone."""
    message = not_served("/openai/v1/nothing").message

    assert "audio/speech under /openai/deployments/{deployment}/; responses" in message
    assert "models under /openai/; and all of them under /openai/v1/." in message


def test_a_word_below_responses_is_no_id() -> None:
    """Whoever misspells an operation learns what there is."""
    assert "ids begin with resp_" in not_served("/openai/v1/responses/compacted").message


@given(text())
def test_what_was_asked_is_repeated_on_one_short_plain_line(asked: str) -> None:
    """Messages reach logs and terminals; a path may hold anything."""
    message = not_served(asked).message

    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 1_700


@given(lists(sampled_from(WORDS)))
def test_what_is_suggested_is_served(segments: list[str]) -> None:
    """A suggestion that leads to another 404 would be worse than none."""
    _, _, meant = not_served("/" + "/".join(segments)).message.partition("did you mean ")

    for address in filter(None, meant.partition("?")[0].split(" or ")):
        try:
            Routes().route("POST", address.replace("{deployment}", "gpt"), "api-version=1")
        except MethodNotAllowed:
            continue
        except NotServed as exc:
            raise AssertionError(address) from exc
