"""Ordinary answers are read in one step, as a JSON parser reads them; any other is not touched."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.answer.reading.ordinary import has_long_number, ordinary_members
from meter.gateway.answer.usage import json_object, read_document, read_ordinary

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
ORDINARY = {
    "chat": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2024-11-20",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "\u00e9 \U0001f600"}}],
        "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 5}},
        "service_tier": "default",
    },
    "response": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_767_225_600,
        "status": "completed",
        "background": True,
        "model": "gpt-4.1",
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "web_search_call", "action": {"type": "search", "query": "q"}},
            {"type": "file_search_call", "results": None},
            {"type": "code_interpreter_call", "container_id": "c1"},
            {"type": "message", "content": [{"type": "output_text", "text": "t"}]},
        ],
        "tools": [{"type": "image_generation", "model": "gpt-image-1"}],
        "tool_usage": {"web_search": {"num_requests": 3}, "image_gen": {"total_tokens": 4}},
        "usage": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9},
    },
    "embeddings": {"object": "list", "data": [{"embedding": [0.5, -1e-7]}] * 3, "usage": USAGE},
    "transcript": {"text": "t", "duration": 12.5},
    "error": {"error": {"code": "429", "message": "m"}},
    "empty": {},
}


@pytest.mark.parametrize("escapes", [True, False])
@pytest.mark.parametrize("document", ORDINARY.values(), ids=list(ORDINARY))
def test_an_ordinary_answer_is_read_in_one_step(document: dict[str, object], escapes: bool) -> None:
    """Everything that is read of it is what a parser of all of it gives."""
    body = json.dumps(document, ensure_ascii=escapes).encode()

    assert read_ordinary(body) == read_document(document)


SCALARS = st.sampled_from(
    [
        *("null", "true", "false", "0", "-0", "7", "1.5", "1e400", "-1E-7", "NaN", "Infinity"),
        *("18446744073709551616", "1" * 25, "1" * 4_301, '"search"', '"in_progress"', '"failed"'),
        *(r'"\ud83d\ude00"', r'"\ud800"', '"\x01"', '"resp_1"', '"response"', '"\u00e9"', "01"),
        *('"web_search_call"', '"code_interpreter_call"', '"image_generation"', "1767225600"),
    ]
)
NAMES = st.sampled_from(
    [
        *("usage", "duration", "output", "tool_usage", "service_tier", "tools", "data", "model"),
        *("id", "created_at", "background", "object", "status", "type", "action", "container_id"),
        *("prompt_tokens", "web_search", "num_requests", "image_gen", r"\u0075sage", "x"),
    ]
)


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(NAMES, inner), max_size=6).map(_object),
    ),
    max_leaves=12,
)
BYTES = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(b'{}[]",:\\ \xff\xc3-0')), max_size=1
)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=8).map(_object),
    BYTES,
)
@example('{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}', [])
@example('{"output":[{"type":[]},1,"x",[{"type":"file_search_call"}],null,1e9]}', [])
@example('{"background":true,"id":"resp_1","created_at":1767225600,"status":[]}', [])
@example('{"tools":[{"type":"image_generation","model":"x"}],"tool_usage":{}}', [])
@example('{"x":"\u00e9","model":"m"}', [(6, 0xFF)])
def test_what_is_read_in_one_step_is_what_a_parser_reads(
    text: str, changes: list[tuple[int, int]]
) -> None:
    """Or nothing is read in one step: what is odd is left to the parser."""
    changed = bytearray(text.encode())
    for at, byte in changes:
        if at < len(changed):
            changed[at] = byte
    body = bytes(changed)

    found = read_ordinary(body)

    assert found is None or repr(found) == repr(read_document(json_object(body) or {}))


@given(st.integers(0, 5_000), st.integers(4_301, 9_000), st.integers(0, 3_000))
def test_a_number_that_is_too_long_is_seen_wherever_it_stands(
    before: int, digits: int, after: int
) -> None:
    """Python converts no integer of more than 4,300 digits."""
    text = b'{"a":"%b","b":%b,"c":"%b"}' % (b"x" * before, b"7" * digits, b"x" * after)

    assert has_long_number(text)
    assert ordinary_members(text) is None
