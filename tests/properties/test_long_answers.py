"""A long answer is read while it passes as a parser would read the whole."""

import json
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.answer.reading.byte_reader import ByteReader
from meter.gateway.answer.reading.members import MAX_NAME_BYTES, MemberReader

COUNTS = st.integers(min_value=0, max_value=10**9)
USAGES = st.fixed_dictionaries({"input_tokens": COUNTS, "output_tokens": COUNTS})
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            '"usage":{"total_tokens":9}',
            '\\"usage\\": {"x',
            '"model":"evil"',
            "usage",
            "model",
            "\\",
            '"',
            "]}",
        ]
    ),
)
VALUES = st.recursive(
    st.one_of(TEXTS, COUNTS, st.none(), st.booleans(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["usage", "model", "data"]), TEXTS), inner, max_size=4
        ),
        st.fixed_dictionaries({"usage": st.one_of(inner, USAGES), "model": TEXTS}),
    ),
    max_leaves=12,
)
KEPT = [
    *("usage", "model", "id", "status", "background", "created_at", "type", "duration", "error"),
    *("object", "sequence_number", "service_tier", "tool_usage"),
]
NAMES = st.one_of(TEXTS, st.just("A" * MAX_NAME_BYTES), st.just('"\\' * MAX_NAME_BYTES))
OTHERS = NAMES.filter(lambda name: name not in {*KEPT, "response"})
MEMBERS = st.dictionaries(st.one_of(OTHERS, st.sampled_from(KEPT)), VALUES, max_size=6)
INDENTS = st.sampled_from([None, 2])
SIZES = st.sampled_from([1, 2, 3, 7, 64, 100_000])


def _kept(members: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if name in KEPT}


@given(MEMBERS, st.none() | MEMBERS, MEMBERS, INDENTS, SIZES)
@example({"x": {"usage": {"total_tokens": 9}}}, None, {"usage": {"input_tokens": 1}}, None, 1)
@example({"x": [{"response": {"usage": 1}}]}, {"usage": {}}, {"y": [{"usage": 2}]}, None, 1)
def test_what_passes_is_read_as_a_parser_reads_it(
    before: dict[str, object],
    response: dict[str, object] | None,
    after: dict[str, object],
    indent: int | None,
    size: int,
) -> None:
    """For any nesting, quoting and escaping, and for any split."""
    inside: dict[str, object] = {} if response is None else {"response": response}
    document = {**before, **inside, **after}
    text = json.dumps(document, indent=indent).encode()
    reader = MemberReader()

    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])

    kept = {} if response is None else {"response": _kept(response)}
    assert reader.members == {**_kept(document), **kept}


@given(st.lists(st.binary(max_size=40), max_size=12), st.booleans())
def test_any_bytes_are_relayed_but_for_the_last_one(chunks: list[bytes], tells: bool) -> None:
    """`feed` holds one byte back, whatever the split; nothing is lost and nothing raises."""
    reader, body = ByteReader(reports_usage=tells), b"".join(chunks)

    relayed = b"".join([reader.feed(chunk) for chunk in chunks])

    assert relayed == body[:-1]
    assert relayed + reader.take_rest() == body
    assert reader.reading.usage is None


@given(USAGES, st.lists(st.integers(min_value=0, max_value=400), max_size=10))
def test_the_usage_of_long_json_does_not_depend_on_its_split(
    usage: dict[str, object], cuts: list[int]
) -> None:
    """It is read as the bytes pass."""
    body = json.dumps({"model": "m", "data": ["x" * 100] * 3, "usage": usage}).encode()
    reader, places = ByteReader(reports_usage=True), sorted({0, *cuts, len(body)})
    for start, end in pairwise(places):
        reader.feed(body[start:end])

    assert (reader.reading.reported, reader.reading.model) == (usage, "m")
