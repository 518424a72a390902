"""What is known of a call's demand before it is sent."""

import json

import pytest

from meter.gateway.balance.demand import Demand
from meter.gateway.request.body import MAX_OUTPUT_TOKENS, parse_body
from meter.gateway.request.form import FormBody
from meter.gateway.request.prepare import demand_of
from tests.fakes.gateway import FakeRequestBody, FakeSpool


def _tokens(**members: object) -> int:
    """What the members add to the demand of the body alone."""
    body = parse_body(json.dumps(members).encode())
    return demand_of(body, "alice").tokens - len(json.dumps(members)) // 4


@pytest.mark.parametrize(
    ("members", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 500}, 500),
        ({"max_completion_tokens": 500}, 500),
        ({"max_output_tokens": 500}, 500),
        ({"max_tokens": 500, "max_completion_tokens": 700}, 700),
        ({"max_tokens": 500, "n": 3}, 1500),
        ({"max_tokens": 500, "n": 2, "best_of": 4}, 2000),
        ({"n": 3}, 0),
    ],
    ids=str,
)
def test_a_calls_demand_has_the_tokens_that_its_answers_may_have(
    members: dict[str, object], tokens: int
) -> None:
    """As Azure OpenAI estimates it: the limit on the answer, times the answers."""
    assert _tokens(**members) == tokens


@pytest.mark.parametrize("value", [-5, 0, None, "500", 5.5, [500], {"a": 1}], ids=str)
def test_a_limit_that_is_no_positive_whole_number_adds_nothing(value: object) -> None:
    """Backends refuse such a call themselves."""
    assert _tokens(max_tokens=value, n=value) == 0


@pytest.mark.parametrize("value", [10**9, 10**100])
def test_an_absurd_limit_is_bounded(value: int) -> None:
    """No arithmetic of ours can overflow."""
    assert _tokens(max_tokens=value, n=value) == MAX_OUTPUT_TOKENS


def test_the_body_counts_by_its_length() -> None:
    """Four bytes per token, whatever is in it."""
    body = parse_body(b'{"input":"' + b"x" * 3990 + b'"}')

    assert demand_of(body, "alice") == Demand(1000, "alice")


def test_a_form_counts_by_its_declared_length() -> None:
    """It has not arrived when a backend is chosen."""
    form = FormBody(source=FakeRequestBody([]), spool=FakeSpool(), declared_bytes=8_000)

    assert demand_of(form, "alice") == Demand(2000, "alice")


def test_a_call_without_a_body_has_no_demand() -> None:
    """Reading what is stored takes no tokens."""
    assert demand_of(None, "alice") == Demand(0, "alice")
