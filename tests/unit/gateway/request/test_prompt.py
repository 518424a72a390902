"""An estimate reads the same prompt from a long body as a JSON parser would."""

import json

import pytest

from meter.gateway.answer.estimate import IMAGE_TOKENS, SMALL_IMAGE_TOKENS, prompt_texts
from meter.gateway.request.body import parse_body
from meter.gateway.request.prompt import texts_of

LONG = "long " * 40_000
IMAGE = "data:image/png;base64," + "QUJD" * 50_000
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": LONG},
    {
        "role": "user",
        "content": [{"type": "text", "text": LONG + "é"}, {"type": "text", "text": "b"}],
    },
    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": LONG}}]},
]


@pytest.mark.parametrize(
    "document",
    [
        {"messages": MESSAGES * 3, "model": "m"},
        {"input": LONG, "instructions": "Be brief."},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": LONG}]}] * 2},
        {"prompt": [LONG, "b", LONG]},
        {"messages": [{"role": "user", "content": "a"}] * 20_000},
    ],
    ids=["messages", "input", "items", "prompts", "many"],
)
def test_a_long_prompt_has_the_same_texts(document: dict[str, object]) -> None:
    """In any order, whatever is long in it."""
    raw = json.dumps(document, ensure_ascii=False).encode()

    texts = texts_of(parse_body(raw))

    assert len(raw) > 131_072
    assert sorted(filter(None, map(str, texts))) == sorted(
        filter(None, map(str, prompt_texts(document)))
    )


def test_long_token_arrays_are_summed() -> None:
    """Tokens need no counting."""
    body = parse_body(json.dumps({"prompt": [7] * 100_000}).encode())

    assert sum(part for part in texts_of(body) if isinstance(part, int)) == 100_000


@pytest.mark.parametrize(
    ("detail", "tokens"), [("high", IMAGE_TOKENS), ("low", SMALL_IMAGE_TOKENS)]
)
def test_a_long_image_is_an_image(detail: str, tokens: int) -> None:
    """Its bytes are no text."""
    image = {"type": "image_url", "image_url": {"url": IMAGE, "detail": detail}}
    content = [{"type": "text", "text": "What is this?"}, image]
    body = parse_body(json.dumps({"messages": [{"role": "user", "content": content}]}).encode())

    assert [part for part in texts_of(body) if part] == ["What is this?", tokens]


def test_a_long_number_hides_no_prompt() -> None:
    """What a JSON parser cannot convert is refused, wherever it stands, or the prompt would be lost."""
    raw = f'{{"messages":[{{"content":"{LONG}"}},[{"1" * 5_000},1]]}}'.encode()

    with pytest.raises(Exception, match="not valid JSON"):
        parse_body(raw)


def test_a_dropped_body_has_no_prompt() -> None:
    """Nothing is estimated from it."""
    body = parse_body(b'{"messages":[{"content":"a"}]}')
    body.drop()

    assert texts_of(body) == []
