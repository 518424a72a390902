"""A long answer is read from its ends as a parser would read the whole."""

import json
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.answer.follow import ByteReader
from meter.gateway.answer.usage import TAIL_BYTES, model_name, read_ends, read_tail

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
NAMES = TEXTS.filter(lambda name: name not in {"usage", "model"})
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
CUTS = st.integers(min_value=0, max_value=300)
INDENTS = st.sampled_from([None, 2])


def _written(members: list[tuple[str, object]], indent: int | None, *, ascii_only: bool) -> bytes:
    text = json.dumps(dict(members), indent=indent, ensure_ascii=ascii_only)
    return text.encode("utf-8", "replace")


@given(MEMBERS, USAGES, MEMBERS, TEXTS, INDENTS, st.booleans(), CUTS)
@example([("x", {"usage": {"total_tokens": 9}})], {"input_tokens": 1}, [], "m", None, True, 0)
@example([], {"input_tokens": 1}, [("x", [{"usage": {"total_tokens": 9}}])], "m", None, True, 0)
def test_the_end_of_an_answer_says_what_the_whole_says(
    before: list[tuple[str, object]],
    usage: dict[str, object],
    after: list[tuple[str, object]],
    model: str,
    indent: int | None,
    ascii_only: bool,
    cut: int,
) -> None:
    """For any nesting, quoting and escaping around it, and for any cut."""
    members = [*before, ("usage", usage), *after, ("model", model)]
    body = _written(members, indent, ascii_only=ascii_only)

    reading = read_tail(body[min(cut, body.index(b'"usage"')) :])

    assert (reading.usage_raw, reading.model) == (usage, model_name(model))


@given(MEMBERS, TEXTS, MEMBERS, USAGES, st.booleans())
def test_a_model_is_found_at_the_beginning_too(
    before: list[tuple[str, object]],
    model: str,
    after: list[tuple[str, object]],
    usage: dict[str, object],
    ascii_only: bool,
) -> None:
    """It may precede data longer than the kept end of an answer."""
    members = [*before, ("model", model), *after, ("data", "A" * TAIL_BYTES), ("usage", usage)]
    body = _written(members, None, ascii_only=ascii_only)

    reading = read_ends(body[:TAIL_BYTES], body[-TAIL_BYTES:])

    assert (reading.usage_raw, reading.model) == (usage, model_name(model))


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
    """It is read from the end of the bytes, for any split."""
    body = json.dumps({"model": "m", "data": ["x" * 100] * 3, "usage": usage}).encode()
    reader, places = ByteReader(reports_usage=True), sorted({0, *cuts, len(body)})
    for start, end in pairwise(places):
        reader.feed(body[start:end])

    assert (reader.reading.usage_raw, reader.reading.model) == (usage, "m")
