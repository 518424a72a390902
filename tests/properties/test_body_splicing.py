"""Splicing changes the named members' values and not one other character."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from meter.gateway.request.body import DECISIVE, parse_body
from meter.gateway.request.members import Member, NotJson, short_members
from meter.gateway.request.scan import long_members

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


def _is_decisive(name: str) -> bool:
    return str(json.loads(name)).lower() in DECISIVE


PLAIN = st.lists(
    st.tuples(SPACE, STRINGS.filter(lambda name: not _is_decisive(name)), SPACE, VALUES), max_size=5
)
MODEL = st.tuples(SPACE, st.sampled_from(['"model"', r'"\u006dodel"']), SPACE, VALUES)
# Of the members that decide what is called only `model`, and that once.
ONE_MODEL = st.builds(lambda one, model, two: [*one, model, *two], PLAIN, MODEL, PLAIN)


def _spliced(raw: bytes, values: dict[str, str]) -> bytes:
    return b"".join(parse_body(raw).spliced(values))


@given(SPACE, ONE_MODEL, SPACE)
@example("\n", [(" ", r'"\u006dodel"', "", "{}")], " ")
def test_replacing_a_member_keeps_every_other_character(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """The result is the same text with the value of `model` replaced."""
    text = before + _object(members) + after
    replaced = [
        (a, name, b, '"new"' if json.loads(name) == "model" else value)
        for a, name, b, value in members
    ]

    sent = _spliced(text.encode(), {"model": '"new"'})

    assert sent.decode() == before + _object(replaced) + after


@given(SPACE, PLAIN.filter(lambda m: all(json.loads(n[1]) != "added" for n in m)), SPACE)
def test_a_new_member_is_put_first_and_the_rest_follows_unchanged(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """The caller's text is complete, after the new member."""
    text = before + _object(members) + after

    sent = _spliced(text.encode(), {"added": "7"}).decode()

    assert sent.startswith(before + '{"added":7')
    assert sent.endswith(text[len(before) + 1 :])
    assert json.loads(sent) == {"added": 7} | json.loads(text)


@given(SPACE, ONE_MODEL, SPACE)
def test_reading_a_body_keeps_its_bytes(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """Unchanged parts are forwarded as received, and each member is read as by a JSON parser."""
    text = before + _object(members) + after
    document = json.loads(text)

    body = parse_body(text.encode())

    assert (body.raw, body.model) == (text.encode(), document["model"])
    assert {name: body.member(name) for name in document} == document


def _scanned(raw: bytes, view_bytes: int, *, most_taken: int = 200) -> list[Member] | None:
    found: list[Member] = []
    steps = long_members(raw, DECISIVE, found.append, view_bytes=view_bytes, most_taken=most_taken)
    try:
        for _ in steps:
            pass
    except NotJson:
        return None
    return found


def _parsed(raw: bytes) -> list[Member] | None:
    try:
        return short_members(raw)
    except NotJson:
        return None


VIEWS = st.sampled_from([80, 100, 257])
# A top-level name that is longer than half a view is not read.
SHORT_NAMES = NAMES.filter(lambda name: len(name.encode()) <= 40)
LONG = st.lists(st.tuples(SPACE, SHORT_NAMES, SPACE, VALUES), max_size=40).map(_object)
NESTED = st.integers(0, 60).map(lambda depth: "[" * depth + '{"a":[1,"\\n",{}]}' + "]" * depth)
DEEP = st.lists(st.tuples(SPACE, SHORT_NAMES, SPACE, st.one_of(NESTED, LONG)), max_size=6).map(
    _object
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 2_000), st.sampled_from(list('{}[]",:\\ \n\x00-0e.tn\u00e9'))),
    max_size=2,
)


@given(DEEP, CHANGES, VIEWS)
@example('{"a":{"b":[' + '"' + "x" * 90 + '",' * 1 + '0]},"model":"m"}', [], 80)
def test_a_long_body_is_read_like_a_short_one(
    text: str, changes: list[tuple[int, str]], view_bytes: int
) -> None:
    """The same members in the same places, or both refuse it: JSON with up to two other characters."""
    for at, char in changes:
        text = text[:at] + char + text[at + 1 :]
    raw = text.encode()

    assert _scanned(raw, view_bytes) == _parsed(raw)


DISGUISED = st.sampled_from(
    ['"MODEL"', r'"\u004dodel"', '"\u017ftream"', r'"\u017Ftream"', '"modelx"']
)
MANY = st.lists(
    st.tuples(SPACE, st.one_of(SHORT_NAMES, DISGUISED), SPACE, st.one_of(VALUES, NESTED)),
    max_size=20,
).map(_object)


@given(MANY, st.integers(0, 5), VIEWS)
def test_of_many_members_those_that_decide_are_found(
    text: str, most_taken: int, view_bytes: int
) -> None:
    """However they are spelt. Of the others the first ones: all together could be millions."""
    raw = text.encode()
    found, every = _scanned(raw, view_bytes, most_taken=most_taken), short_members(raw)

    assert found is not None
    decisive = [each for each in every if each.name.lower().replace("\u017f", "s") in DECISIVE]
    assert [each for each in found if each in decisive] == decisive
    assert found[:most_taken] == every[:most_taken]
    assert all(each in decisive for each in found[most_taken:])
