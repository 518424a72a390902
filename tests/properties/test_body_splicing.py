"""Splicing changes the named members' values and not one other character."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.request.body import parse_body, spliced

SPACE = st.text(alphabet=" \t\n\r", max_size=3)
NUMBERS = st.sampled_from(["0", "-0", "1e5", "1E-07", "1.10", "123456789012345678901234567890"])
STRINGS = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([r'"\ud83d\ude00"', r'"\/"', r'"a\"b"', r'"\\"', '"}"', '","', '"model"']),
)
LEAVES = st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null", "{}", "[]"]))


def _array(parts: list[tuple[str, str]]) -> str:
    return "[" + ",".join(space + value for space, value in parts) + "]"


def _object(members: list[tuple[str, str, str, str]]) -> str:
    written = [f"{before}{name}{after}:{before}{value}" for before, name, after, value in members]
    return "{" + ",".join(written) + "}"


NAMES = st.one_of(STRINGS, st.sampled_from(['"model"', r'"\u006dodel"', '"stream_options"']))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(st.tuples(SPACE, inner), max_size=3).map(_array),
        st.lists(st.tuples(SPACE, NAMES, SPACE, inner), max_size=3).map(_object),
    ),
    max_leaves=6,
)
MEMBERS = st.lists(st.tuples(SPACE, NAMES, SPACE, VALUES), max_size=6)


def _writable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@given(SPACE, MEMBERS, SPACE)
@example("\n", [("", '"model"', "", '"a"'), (" ", r'"\u006dodel"', "", "{}")], " ")
def test_replacing_members_keeps_every_other_character(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """The result is the same text with each `model` value replaced, repeated ones too."""
    text = before + _object(members) + after
    if not any(json.loads(name) == "model" for _, name, _, _ in members):
        members = [*members, ("", '"model"', " ", "1")]
        text = before + _object(members) + after
    replaced = [
        (a, name, b, '"new"' if json.loads(name) == "model" else value)
        for a, name, b, value in members
    ]

    sent = spliced(text, {"model": '"new"'})

    assert sent.decode() == before + _object(replaced) + after


@given(SPACE, MEMBERS.filter(lambda m: all(json.loads(n[1]) != "added" for n in m)), SPACE)
def test_a_new_member_is_put_first_and_the_rest_follows_unchanged(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """The caller's text is complete, after the new member."""
    text = before + _object(members) + after

    sent = spliced(text, {"added": "7"}).decode()

    assert sent.startswith(before + '{"added":7')
    assert sent.endswith(text[len(before) + 1 :])
    assert json.loads(sent) == {"added": 7} | json.loads(text)


@given(SPACE, MEMBERS, SPACE)
def test_reading_a_body_keeps_its_text(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """Unchanged parts are forwarded as received, and `model` is read as by a JSON parser."""
    text = before + _object(members) + after

    body = parse_body(text.encode())

    assert (body.text, body.model) == (text, json.loads(text).get("model"))
