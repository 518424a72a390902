"""Calls of hosted tools are counted by rule, in lists of any length, and nothing else is kept."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.reading.byte_reader import ByteReader
from meter.gateway.answer.reading.items import MAX_CONTAINERS, Items, hosted_calls
from meter.gateway.answer.reading.members import MemberReader
from meter.gateway.answer.usage import MAX_PARSED_BYTES, Reading, read_answer
from meter.usage import TokenUsage

SEARCH = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}}
OPEN_PAGE = {"type": "web_search_call", "action": {"type": "open_page", "url": "https://x"}}
FIND = {"type": "web_search_call", "action": {"type": "find_in_page", "pattern": "x"}}
FILES = {"type": "file_search_call", "queries": ["x"], "results": None}
USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
IMAGE_GEN = {
    "input_tokens": 40,
    "input_tokens_details": {"image_tokens": 30, "text_tokens": 10},
    "output_tokens": 1_000,
    "output_tokens_details": {"image_tokens": 990, "text_tokens": 10},
    "total_tokens": 1_040,
}
IMAGE_USAGE = TokenUsage(
    prompt_tokens=40,
    completion_tokens=1_000,
    total_tokens=1_040,
    image_tokens=1_020,
    image_prompt_tokens=30,
    image_completion_tokens=990,
)


def code(container: object) -> dict[str, object]:
    return {"type": "code_interpreter_call", "container_id": container, "code": "1", "outputs": []}


def calls(items: Items) -> tuple[int, int, int]:
    return items.searches, items.file_searches, len(items.containers)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([], (0, 0, 0)),
        ([SEARCH, OPEN_PAGE, FIND, SEARCH], (2, 0, 0)),
        ([FILES, FILES], (0, 2, 0)),
        ([code("cntr_1"), code("cntr_2"), code("cntr_1")], (0, 0, 2)),
        ([code(None), code(""), code(7), code([])], (0, 0, 0)),
        ([{}, {"id": "x"}, {"type": None}, {"type": []}, {"type": "message"}], (0, 0, 0)),
        ([{"type": "web_search_call"}, {"type": "web_search_call", "action": "search"}], (0, 0, 0)),
        ([7, None, "web_search_call", [SEARCH]], (0, 0, 0)),
        ({"type": "web_search_call"}, (0, 0, 0)),
        (None, (0, 0, 0)),
    ],
    ids=str,
)
def test_calls_are_counted_by_their_type(output: object, expected: tuple[int, ...]) -> None:
    """A search is one by its action, a session of the code interpreter by its container."""
    assert calls(Items.of(output)) == expected


@pytest.mark.parametrize(
    ("told", "searches"),
    [
        ({"web_search": {"num_requests": 5}}, 5),
        ({"web_search": {"num_requests": 0}}, 0),
        ({"web_search": {"num_requests": -1}}, 1),
        ({"web_search": {"num_requests": "5"}}, 1),
        ({"web_search": {}}, 1),
        ({"web_search": None}, 1),
        ({}, 1),
        (None, 1),
    ],
    ids=str,
)
def test_the_answers_own_number_of_searches_wins(
    told: dict[str, object] | None, searches: int
) -> None:
    """It leaves out those that are not billed. One that makes no sense is none."""
    assert hosted_calls(Items.of([SEARCH, OPEN_PAGE]), told).get("web_search_calls", 0) == searches


OUTPUT = [
    {"type": "reasoning", "summary": []},
    SEARCH,
    {"type": "image_generation_call", "result": "A" * 1_000, "action": "generate"},
    FILES,
    code("cntr_1"),
    {"type": "message", "content": [{"type": "output_text", "text": json.dumps([SEARCH] * 3)}]},
]
RESPONSE: dict[str, object] = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5",
    "output": OUTPUT,
    "service_tier": "priority",
    "tools": [
        {"type": "function", "name": "f", "model": "evil"},
        {"type": "image_generation", "model": "gpt-image-1", "size": "auto"},
    ],
    "tool_usage": {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 2}},
    "usage": USAGE,
    "metadata": {"service_tier": "flex", "output": "x"},
}
COUNTED = TokenUsage(
    prompt_tokens=10,
    completion_tokens=5,
    total_tokens=15,
    web_search_calls=2,
    file_search_calls=1,
    code_interpreter_calls=1,
)


def whole(response: dict[str, object]) -> Reading:
    return read_answer(json.dumps(response).encode())


def long(response: dict[str, object]) -> Reading:
    padded = {"text": "x" * MAX_PARSED_BYTES, **response}
    return read_answer(json.dumps(padded).encode())


def relayed(response: dict[str, object]) -> Reading:
    reader, body = ByteReader(reports_usage=True), json.dumps(response, indent=1).encode()
    for at in range(0, len(body), 700):
        reader.feed(body[at : at + 700])
    return reader.reading


def streamed(response: dict[str, object]) -> Reading:
    return in_frame(response, StreamReader())


def oversize(response: dict[str, object]) -> Reading:
    return in_frame(response, StreamReader(max_frame_bytes=100))


def in_frame(response: dict[str, object], reader: StreamReader) -> Reading:
    data = json.dumps({"type": "response.completed", "response": response})
    reader.feed(f"event: response.completed\ndata: {data}\n\n".encode())
    return reader.reading


type Read = Callable[[dict[str, object]], Reading]

WAYS: list[Read] = [whole, long, relayed, streamed, oversize]


@pytest.mark.parametrize("read", WAYS)
def test_a_response_reports_its_tools_whichever_way_it_comes(read: Read) -> None:
    """Whole, too long to parse, as it passes, as an event, as one too long to hold."""
    reading = read(RESPONSE)

    assert reading.usage == COUNTED
    assert (reading.image_usage, reading.image_model) == (IMAGE_USAGE, "gpt-image-1")
    assert (reading.service_tier, reading.model) == ("priority", "gpt-5")
    assert reading.usage_raw == {
        "usage": USAGE,
        "tool_usage": RESPONSE["tool_usage"],
        "service_tier": "priority",
    }


@pytest.mark.parametrize("read", WAYS)
def test_ten_thousand_calls_are_counted(read: Read) -> None:
    """One after the other, with and without a type."""
    searches = [SEARCH, {"id": "x"}] * 10_000
    containers = [code(f"cntr_{n}") for n in range(MAX_CONTAINERS + 5)]

    response: dict[str, object] = {"output": [*searches, *containers], "usage": USAGE}

    usage = read(response).usage

    assert usage is not None
    assert (usage.web_search_calls, usage.code_interpreter_calls) == (10_000, MAX_CONTAINERS)


def test_calls_without_usage_are_missing_with_it() -> None:
    """Their number alone would look as if the tokens were none."""
    assert read_answer(json.dumps({"output": [SEARCH], "usage": None}).encode()).usage is None


@pytest.mark.parametrize(
    "image_gen",
    [None, [], {}, {"input_tokens": -1}, {"input_tokens": 0, "output_tokens": 0}, "x"],
    ids=str,
)
def test_an_image_tool_that_used_nothing_has_no_usage(image_gen: object) -> None:
    """Nor one whose counts make no sense; the rest of the answer holds."""
    reading = whole({**RESPONSE, "tool_usage": {"image_gen": image_gen}})

    assert reading.image_usage == TokenUsage()
    assert reading.usage is not None


TYPES = st.sampled_from(
    ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation", "message"]
)
SCALARS = st.one_of(st.none(), st.integers(0, 3), st.text(max_size=3), TYPES)
VALUES = st.one_of(
    SCALARS,
    st.just({"type": "search"}),
    st.just([{"type": "web_search_call", "action": {"type": "search"}}]),
    st.dictionaries(st.sampled_from(["type", "action", "output", "x"]), SCALARS, max_size=3),
)
ITEMS = st.one_of(
    SCALARS,
    st.lists(VALUES, max_size=2),
    st.dictionaries(
        st.sampled_from(["type", "action", "container_id", "model", "result"]), VALUES, max_size=5
    ),
)
PLACES = st.sampled_from(["output", "tools", "data", "other"])
DOCUMENTS = st.dictionaries(PLACES, st.one_of(st.lists(ITEMS, max_size=5), VALUES), max_size=4)


@given(DOCUMENTS, st.none() | DOCUMENTS, st.sampled_from([None, 1]), st.sampled_from([1, 5, 999]))
def test_lists_that_pass_are_counted_as_a_parser_would(
    document: dict[str, object], response: dict[str, object] | None, indent: int | None, size: int
) -> None:
    """For any nesting and any split."""
    inside = {} if response is None else {"response": response}
    text = json.dumps({**document, **inside}, indent=indent).encode()
    reader = MemberReader()

    for at in range(0, len(text), size):
        reader.feed(text[at : at + size])

    def listed(members: dict[str, object]) -> dict[str, object]:
        names = ("output", "tools", "data")
        return {name: members[name] for name in names if isinstance(members.get(name), list)}

    expected = listed(document) | ({"response": listed(response)} if response else {})
    found = reader.lists
    assert {name for name in found if found[name]} <= expected.keys()
    for name in listed(document):
        assert _shown(found[name], name) == _shown(Items.of(document[name]), name)
    for name, value in listed(response or {}).items():
        assert _shown(found["response"][name], name) == _shown(Items.of(value), name)  # type: ignore[index]


def _shown(items: object, name: str) -> object:
    assert isinstance(items, Items)
    counted = (items.count, items.is_whole)
    return counted if name == "data" else (*counted, calls(items), items.image_model)
