"""A body is refused when it is no JSON object, and asks for usage however it was written."""

import json

import pytest

from meter.errors import BadRequest
from meter.gateway.request.body import JsonBody, parse_body, with_usage_asked


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
