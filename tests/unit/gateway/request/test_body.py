"""A body is refused when it is no JSON object, and asks for usage however it was written."""

import json
import time

import pytest

from meter.errors import BadRequest
from meter.gateway.request.body import (
    DECISIVE,
    JsonBody,
    parse_body,
    read_json,
    with_usage_asked,
)


def spliced(body: JsonBody, values: dict[str, str]) -> bytes:
    return b"".join(body.spliced(values))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"nonsense",
        b"{",
        b'{"a":1}}',
        b'{"a":1,}',
        b"\xff\xfe{}",
        b'{"a":"\xe9"}',
        b"[]",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'"text"',
        b"7",
        b"null",
        b"{'a':1}",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_json_object_is_a_bad_request(raw: bytes) -> None:
    """400, with a message that says what is accepted; never another error."""
    with pytest.raises(BadRequest) as refused:
        parse_body(raw)

    assert refused.value.status == 400
    assert "JSON object" in refused.value.message


@pytest.mark.parametrize(
    ("raw", "is_streaming"),
    [
        (b'{"stream":true}', True),
        (b'{"stream":false}', False),
        (b'{"stream":null}', False),
        (b"{}", False),
        (b'{"options":{"stream":true}}', False),
    ],
)
def test_only_the_bodys_own_stream_member_makes_it_a_stream(raw: bytes, is_streaming: bool) -> None:
    """`stream: true` at the top level."""
    assert parse_body(raw).is_streaming is is_streaming


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        ("{}", False),
        ('{"include_usage":true}', True),
        ('{"include_usage":false}', False),
        ('{"include_usage":null}', False),
        ('{"include_usage":1}', False),
        ('{"include_usage":"true"}', False),
        ("null", False),
        ("[]", False),
        ("true", False),
    ],
)
def test_a_caller_asks_for_usage_with_true_alone(options: str, asks: bool) -> None:
    """Anything else is a caller that did not ask, and gets no usage frame."""
    body = parse_body(b'{"stream_options":' + options.encode() + b"}")

    assert body.asks_for_usage is asks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{}", {"include_usage": True}),
        ("null", {"include_usage": True}),
        ("[1]", {"include_usage": True}),
        ('"x"', {"include_usage": True}),
        ('{"include_usage":false}', {"include_usage": True}),
        ('{"other":[1,{"a":2}]}', {"other": [1, {"a": 2}], "include_usage": True}),
        (
            '{"include_usage":false,"include_obfuscation":true}',
            {"include_usage": True, "include_obfuscation": True},
        ),
    ],
)
def test_usage_is_asked_for_beside_the_callers_other_options(
    options: str, expected: dict[str, object]
) -> None:
    """`include_usage` is set to true, also where the caller set it to false; the rest stays."""
    body = parse_body(f'{{"model":"m","stream_options":{options},"stream":true}}'.encode())

    sent = spliced(body, with_usage_asked(body))

    assert json.loads(sent) == {"model": "m", "stream_options": expected, "stream": True}


def test_usage_is_asked_for_where_there_are_no_options() -> None:
    """A new member is put first and the caller's text stays as it is."""
    body = parse_body(b'{ "stream" : true }')

    sent = spliced(body, with_usage_asked(body))

    assert sent == b'{"stream_options":{"include_usage": true}, "stream" : true }'


def test_an_empty_object_gets_its_first_member() -> None:
    """Without a comma, which JSON would not allow there."""
    assert spliced(parse_body(b" { } "), {"a": "1"}) == b' {"a":1 } '


def test_a_name_that_is_written_with_escapes_is_found() -> None:
    """`mod\\u0065l` is `model` to every JSON reader, so it is replaced too."""
    assert spliced(parse_body(rb'{"mod\u0065l":"x"}'), {"model": '"y"'}) == rb'{"mod\u0065l":"y"}'


def test_members_of_inner_objects_stay() -> None:
    """Only the top level decides what is called."""
    body = parse_body(b'{"tools":[{"model":"inner"}],"model":"x"}')

    assert spliced(body, {"model": '"y"'}) == b'{"tools":[{"model":"inner"}],"model":"y"}'


def test_a_byte_order_mark_is_not_passed_on() -> None:
    """RFC 8259 section 8.1: a reader may ignore it, a writer must not send it."""
    assert parse_body(b"\xef\xbb\xbf{}").raw == b"{}"


@pytest.mark.parametrize("depth", [900, 9_900])
def test_what_was_parsed_can_be_spliced_however_deep_it_is(depth: int) -> None:
    """A body that was accepted never fails later for its depth."""
    body = parse_body(b'{"a":' + b"[" * depth + b"]" * depth + b',"model":"x"}')

    assert spliced(body, {"model": '"y"'}).endswith(b',"model":"y"}')


PADDING = ',"padding":"' + "x" * 200_000 + '"'


@pytest.fixture(params=["", PADDING], ids=["short", "long"])
def padding(request: pytest.FixtureRequest) -> str:
    """A member that makes a body long: such a body is scanned instead of parsed."""
    return str(request.param)


@pytest.mark.parametrize("name", DECISIVE)
@pytest.mark.parametrize(
    "other",
    ["{0}", "{1}", "{2}", "\\u00{3:02x}{4}", "\\u00{5:02X}{4}"],
    ids=["twice", "capital", "all capitals", "escaped", "escaped capital"],
)
def test_a_member_that_decides_is_named_once(name: str, other: str, padding: str) -> None:
    """Two parsers may take different ones; the text names the member."""
    first = name[0]
    twin = other.format(
        name, name.capitalize(), name.upper(), ord(first), name[1:], ord(first.upper())
    )
    values = '"{}":null{},"{}":null'

    for text in (values.format(name, padding, twin), values.format(twin, padding, name)):
        with pytest.raises(BadRequest) as refused:
            parse_body(b"{" + text.encode() + b"}")
        assert f"`{name}`" in refused.value.message
        assert "once" in refused.value.message


@pytest.mark.parametrize(
    "name", ["Model", "STREAM", "\\u0053tream", "\u017ftream", "bac\u212aground", "\\u017Ftream"]
)
def test_a_member_that_decides_is_spelt_in_lower_case(name: str, padding: str) -> None:
    """Alone, too: to a parser that ignores case it is the member. Long s and the kelvin sign fold."""
    with pytest.raises(BadRequest, match="lower case"):
        parse_body(f'{{"a":1{padding},"{name}":null}}'.encode())


def test_a_twin_behind_many_members_is_found() -> None:
    """Of a long body's members only the first are remembered, but for those that decide."""
    many = ",".join(f'"k{number}":{{}}' for number in range(20_000))

    with pytest.raises(BadRequest, match="`model`"):
        parse_body(f'{{"model":"a",{many},"mod\\u0065l":"b"}}'.encode())
    with pytest.raises(BadRequest, match="`stream`"):
        parse_body(f'{{{many},"ſtream":true,{many}}}'.encode())
    assert parse_body(f'{{{many},"model":"a",{many}}}'.encode()).model == "a"


@pytest.mark.parametrize("name", ["models", "mode", "", "user", "metadata", "Messages", "\\ud83d"])
def test_other_members_may_be_named_as_often_as_a_caller_likes(name: str, padding: str) -> None:
    """What they mean is between the caller and the backend."""
    body = parse_body(f'{{"{name}":1{padding},"{name}":2,"model":"m"}}'.encode())

    assert body.model == "m"


@pytest.mark.parametrize(
    "value", ["1", "0", '"true"', '"false"', "[]", "{}", "1.0", "NaN", "[true]"]
)
def test_a_stream_that_is_no_boolean_is_refused(value: str, padding: str) -> None:
    """A backend may take it for true, and stream an answer without usage."""
    with pytest.raises(BadRequest, match="`stream` must be true or false"):
        parse_body(f'{{"stream":{value}{padding}}}'.encode())


@pytest.mark.parametrize(
    "options",
    [
        '{"include_usage":true,"include_usage":false}',
        '{"Include_Usage":false,"include_usage":true}',
        '{"include_usage":true,"include\\u005fusage":false}',
    ],
)
def test_usage_is_asked_for_once(options: str) -> None:
    """A backend that takes the other one would not report usage."""
    with pytest.raises(BadRequest, match="`include_usage`"):
        parse_body(f'{{"stream":true,"stream_options":{options}}}'.encode())


@pytest.mark.parametrize("name", DECISIVE)
def test_a_member_that_decides_is_short(name: str) -> None:
    """64 KiB, so that it can be read at once."""
    with pytest.raises(BadRequest, match=f"`{name}` is too long"):
        parse_body(f'{{"{name}":"{"x" * 65_536}"}}'.encode())


def test_a_mebibyte_of_duplicates_takes_no_time() -> None:
    """Splicing is linear where names are repeated that decide nothing; others are refused at once."""
    repeated = b',"stream_option":0' * (1_048_576 // 18)
    started = time.process_time()

    body = parse_body(b'{"stream":true,"stream_options":{}' + repeated + b"}")
    sent = spliced(body, with_usage_asked(body))
    with pytest.raises(BadRequest):
        parse_body(b'{"stream_options":0' + b',"stream_options":0' * 55_000 + b"}")

    assert time.process_time() - started < 2  # tens of milliseconds where nothing else runs
    assert len(sent) == body.size + len('"include_usage": true')


@pytest.mark.parametrize(
    "text", ["[" * 200_000 + "]" * 200_000, "1" * 200_000, "1" * 5_000, '{"a":1,}', "[1,]", "[1 2]"]
)
def test_what_is_no_json_is_refused_however_long_the_body(text: str, padding: str) -> None:
    """Too deep, too long a number, or broken."""
    with pytest.raises(BadRequest, match="not valid JSON"):
        parse_body(f'{{"a":{text}{padding}}}'.encode())


def test_members_are_read_by_name(padding: str) -> None:
    """Absent and long ones are None; of repeated ones the last counts, as for a JSON parser."""
    body = parse_body(f'{{"n":1,"max_tokens":7,"n":2,"a":{{"n":3}}{padding}}}'.encode())

    names = ("max_tokens", "n", "a", "b", "padding")
    assert [body.member(name) for name in names] == [7, 2, {"n": 3}, None, None]
    assert body.output_tokens == 14


def test_the_items_of_an_array_are_read_one_by_one(padding: str) -> None:
    """As JSON texts; another value has none."""
    body = parse_body(f'{{"input":[ 1 ,{{"a":[2]}},"x"] {padding},"n":{{"a":1}}}}'.encode())

    assert list(body.items("input")) == [b"1", b'{"a":[2]}', b'"x"']
    assert [*body.items("n"), *body.items("absent")] == []


def test_a_dropped_body_has_no_bytes_and_is_told() -> None:
    """What was read of it stays."""
    told: list[bool] = []
    body = parse_body(b'{"model":"m","input":[1]}')
    body.on_drop = lambda: told.append(True)

    body.drop()

    assert (body.raw, body.model, body.size, told) == (b"", "m", 25, [True])
    assert (body.member("model"), list(body.items("input"))) == (None, [])


def test_a_mebibyte_of_a_conversation_is_read_in_one_look() -> None:
    """After a turn has been waited for; a longer body takes many."""
    message = {"role": "user", "content": "x" * 2_000}
    short, long = (
        json.dumps({"messages": [message] * count, "model": "m"}).encode() for count in (520, 1_040)
    )

    looks = [sum(1 for _ in read_json(raw)) for raw in (short, long)]

    assert looks[0] == 1
    assert looks[1] > 30
