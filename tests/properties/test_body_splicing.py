"""Splicing changes the named members' values and not one other character."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from meter.errors import BadRequest
from meter.gateway.request.body import DECISIVE, JsonBody, json_at_once, parse_body, read_json
from meter.gateway.request.members import Member, NotJson, members_at_once
from meter.gateway.request.scan import long_members
from tests.support.json_members import members_of

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


def _carefully(raw: bytes) -> JsonBody | str:
    """What is read in steps, or the refusal."""
    steps = read_json(raw)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        body: JsonBody = end.value
        return body
    except BadRequest as exc:
        return exc.message


def _at_once(raw: bytes) -> JsonBody | str | None:
    try:
        return json_at_once(raw)
    except BadRequest as exc:
        return exc.message


DECIDING = st.sampled_from(
    [f'"{name}"' for name in (*DECISIVE, "Model", "STREAM", "\u017ftream", r"\u017ftream", "n")]
)
DECIDED = st.one_of(VALUES, st.sampled_from(["true", '"gpt"', '{"include_usage":true}', '{"a":1}']))
ASKED = st.lists(st.tuples(SPACE, st.one_of(DECIDING, NAMES), SPACE, DECIDED), max_size=6)


@given(SPACE, ASKED, SPACE)
@example("", [("", '"stream"', "", "1")], "")
@example("", [("", '"stream_options"', "", '{"include_usage":1,"include_usage":2}')], "")
@example("", [("", '"model"', "", '"a"'), ("", r'"mod\u0065l"', "", '"b"')], "")
@example("", [("", '"n"', "", "1"), ("", '"n"', "", "2")], "")
@example("", [("", '"model"', "", '"gpt"'), ("", '"n"', "", "2")], "")
@example("", [("", '"model"', "", r'"\ud800"')], "")
@example("", [("", '"1"', "", "1"), ("", '"n"', "", "{")], "")
def test_an_ordinary_body_is_read_at_once_as_in_steps(
    before: str, members: list[tuple[str, str, str, str]], after: str
) -> None:
    """With the same values, or the same refusal, where it is not left to the steps."""
    raw = (before + _object(members) + after).encode()
    at_once, carefully = _at_once(raw), _carefully(raw)
    if isinstance(at_once, JsonBody) and isinstance(carefully, JsonBody):
        at_once.on_drop = carefully.on_drop

    assert at_once is None or at_once == carefully


def test_a_small_request_is_read_at_once() -> None:
    """As SDKs send it; in other letters, with a name twice or after a byte order mark it is not."""
    raw = b'{"model":"gpt","messages":[{"role":"user","content":"Hi"}],"stream":true}'
    others = [b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b'{"Model":1}', '{"a":"é"}'.encode(), b"{"]

    assert json_at_once(raw) is not None
    assert [json_at_once(other) for other in others] == [None] * 5


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
        return members_of(raw)
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
def test_a_scanned_body_is_read_as_json_reads_it(
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
    found, every = _scanned(raw, view_bytes, most_taken=most_taken), members_of(raw)

    assert found is not None
    decisive = [each for each in every if each.name.lower().replace("\u017f", "s") in DECISIVE]
    assert [each for each in found if each in decisive] == decisive
    assert found[:most_taken] == every[:most_taken]
    assert all(each in decisive for each in found[most_taken:])


# What `json` accepts and msgspec does not, or the other way round.
ODD = st.sampled_from(
    ["NaN", "-Infinity", "1E400", "-0", r'"\ud800"', r'{"\udfff":1}', "1" * 4_301, "1" * 4_300]
)
ODD_TEXT = st.lists(
    st.tuples(
        SPACE,
        STRINGS.filter(lambda name: not _is_decisive(name)),
        SPACE,
        st.one_of(VALUES, ODD, NESTED),
    ),
    max_size=8,
).map(_object)
BYTES = st.lists(
    st.tuples(st.integers(0, 9_000), st.sampled_from(b'{}[]",:\\ \n\x00-0e.tn\xc3\xa9\xff\xed')),
    max_size=2,
)


@given(ODD_TEXT, BYTES)
@example('{"a":"\u00e9"}', [(6, 0xC0)])
@example('{"\u00e9":1}', [(2, 0xFF)])
@example('{"a":1,"a":[2],"b":3}', [])
@example('{"a":12,"a":1}', [])
@example('{"a":[1],"b":2,"a":[1]}', [])
@example('{"a":"","b":1,"a":"","b":1}', [])
def test_members_found_at_once_are_those_that_json_finds(
    text: str, changes: list[tuple[int, int]]
) -> None:
    """In the same places, repeated ones too; what else is JSON to one of the two is scanned."""
    changed = bytearray(text.encode())
    for at, byte in changes:
        if at < len(changed):
            changed[at] = byte
    raw = bytes(changed)

    found, every = members_at_once(raw), _parsed(raw)

    assert found is None or found == every or not _is_utf8(raw)
    assert _read(raw) == (None if every is None else {name: place for name, *place in every})


ORDINARY = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), ORDINARY, max_size=6), st.booleans())
def test_an_ordinary_body_is_read_at_once(document: dict[str, object], escapes: bool) -> None:
    """Whatever a JSON writer makes of plain values is never scanned."""
    raw = json.dumps(document, ensure_ascii=escapes).encode()

    assert members_at_once(raw) == members_of(raw)


def _read(raw: bytes) -> dict[str, list[int]] | None:
    """Where a body's members stand, of repeated ones the last; None where it is refused."""
    try:
        return {name: list(place) for name, place in parse_body(raw).spans.items()}
    except BadRequest:
        return None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
