"""Bodies of entity-group transactions: what is encoded cannot leak, what is read cannot lie."""

from datetime import datetime
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.adapters.odata.transaction import Part, decode, encode, error_code, read_etags
from meter.ports import Row
from tests.support.entity_group import (
    BATCH,
    CHANGESET,
    CONTENT_TYPE,
    ETAG,
    answer,
    done,
    failed,
    odata_error,
)

URL = "https://account.table.core.windows.net"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def encoded(*insert: Row, update: list[Row] | None = None) -> bytes:
    _, body = encode(URL, "T", "p", insert=insert, update=update or [], delete=[], boundary="1-2")
    return body


def test_parts_are_read_in_the_order_of_the_rows() -> None:
    """The service answers in the order of the requests; a delete has no etag."""
    assert decode(CONTENT_TYPE, answer(done('W/"1"'), done('W/"2"'), done(None))) == [
        Part(204, 'W/"1"'),
        Part(204, 'W/"2"'),
        Part(204),
    ]


ALIKE = ['W/"1"', 'W/"2"', 'W/"2"']


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("nosniff\r\nCache", "nosniff\r\nX: y\r\nCache"),
        ('W/"2"\r\n', 'W/"2"\r\nX: y\r\n'),
        ("--\r\n", "--\r\n\r\n"),
        ("", ""),
    ],
)
def test_parts_are_read_the_same_whether_or_not_they_are_alike(was: str, now: str) -> None:
    """Azure says of an inserted row where it is, so the parts differ in more than the etag there."""
    body = answer(*map(done, ALIKE)).decode()
    body = now.join(body.rsplit(was, 1)) if was else body

    assert read_etags(CONTENT_TYPE, body.encode()) == ALIKE


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('W/"2"', 'W/"2" 3'),
        ('W/"2"', 'W/"2"\r\nno header'),
        ('W/"2"\r\n', 'W/"2"\r\n\r\nbody'),
        ("204", "409"),
        ("Cache-Control", "Cache Control"),
    ],
)
def test_a_part_that_differs_is_looked_at(was: str, now: str) -> None:
    """That the first is sound says nothing of the last."""
    body = now.join(answer(*map(done, ALIKE)).decode().rsplit(was, 1))

    assert read_etags(CONTENT_TYPE, body.encode()) is None


def test_an_inserted_row_may_be_echoed() -> None:
    """201 with the row as JSON is the service's default."""
    head = f"HTTP/1.1 201 Created\r\nETag: {ETAG}\r\nContent-Type: application/json\r\n\r\n"

    assert decode(CONTENT_TYPE, answer(head + '{"RowKey": "--x"}', done('W/"2"'))) == [
        Part(201, ETAG),
        Part(204, 'W/"2"'),
    ]


def test_one_error_answers_for_all() -> None:
    """Its code is what the caller acts on; an error has no etag."""
    assert decode(CONTENT_TYPE, answer(failed(409, "EntityAlreadyExists"))) == [
        Part(409, error_code="EntityAlreadyExists")
    ]


def test_an_error_outside_a_change_set_is_read_as_well() -> None:
    """The batch as a whole may fail before there is one."""
    body = (
        f"--{BATCH}\r\nContent-Type: application/http\r\n\r\n{failed(400, 'InvalidInput')}\r\n"
        f"--{BATCH}--"
    )

    assert decode(CONTENT_TYPE, body.encode()) == [Part(400, error_code="InvalidInput")]


HEADERS = ["X-Content-Type-Options: nosniff", f"ETag: {ETAG}", "Location: https://a/T(x='1:2')"]


@pytest.mark.parametrize("headers", list(permutations(HEADERS)))
def test_the_order_of_headers_does_not_matter(headers: tuple[str, ...]) -> None:
    """Only the names count."""
    response = "\r\n".join(["HTTP/1.1 204 No Content", *headers, "", ""])

    assert decode(CONTENT_TYPE, answer(response)) == [Part(204, ETAG)]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("\r\n", "\n"),
        ("ETag: ", "eTAG:"),
        ("ETag: ", "ETag : \t"),
        ("Content-Type: application/http", "content-type:Application/HTTP; msgtype=response"),
        ("Content-Type: multipart/mixed; boundary=", "CONTENT-TYPE: Multipart/Mixed;Boundary = "),
        (f"boundary={CHANGESET}", f'charset=x; boundary="{CHANGESET}"; y=z'),
        (f"--{CHANGESET}\r\n", f"--{CHANGESET} \t\r\n"),
        (f"--{BATCH}\r\n", f"a preamble\r\n--{BATCH}\r\n"),
        (f"--{BATCH}--\r\n", f"--{BATCH}--"),
        (f"--{BATCH}--\r\n", f"\r\n--{BATCH}--\r\n\r\nan epilogue"),
        ("HTTP/1.1 204 No Content", "HTTP/1.0 204"),
        ("HTTP/1.1 204 No Content", "\r\nHTTP/1.1 204 No Content \t"),
        (f"{ETAG}\r\n\r\n", f"{ETAG}\r\n\r\n\r\n\r\n"),
        (f"{ETAG}\r\n\r\n", f"{ETAG}\r\n"),
    ],
)
def test_other_ways_of_writing_the_same_are_read_the_same(was: str, now: str) -> None:
    """Case, white space, line ends and parameters are free in MIME and HTTP."""
    written = answer(done(), done()).decode()
    body = written.replace(was, now).encode()

    assert body != written.encode()
    assert decode(CONTENT_TYPE, body) == [Part(204, ETAG), Part(204, ETAG)]


@pytest.mark.parametrize("response", [done(), failed(409, "EntityAlreadyExists")])
def test_an_answer_cut_anywhere_is_refused(response: str) -> None:
    """What was cut may have said otherwise."""
    body = answer(done(), response).rstrip()

    for end in range(len(body)):
        with pytest.raises(ValueError):  # noqa: PT011  # any: the adapter asks no further
            decode(CONTENT_TYPE, body[:end])


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("HTTP/1.1 204", "HTTP/1.1 2O4"),
        ("HTTP/1.1 204", "HTTP/1.1 999"),
        ("HTTP/1.1 204", "HTTP/1.1 2041"),
        ("HTTP/1.1 204", "204"),
        ("application/http", "text/plain"),
        ("Content-Type: application/http", "X: y"),
        ("multipart/mixed", "multipart/form-data"),
        (f"boundary={CHANGESET}", "boundary="),
        (f"boundary={CHANGESET}", "boundary=other"),
        (f"--{CHANGESET}\r\n", f"--{CHANGESET}x\r\n"),
        ("X-Content-Type-Options: nosniff", "nosniff"),
        ("nosniff", "\udcff"),
    ],
)
def test_what_is_no_answer_is_refused(was: str, now: str) -> None:
    """Nothing is guessed: a status that cannot be read is not a success."""
    body = answer(done(), done()).decode().replace(was, now).encode(errors="surrogateescape")

    with pytest.raises(ValueError):  # noqa: PT011  # any: the adapter asks no further
        decode(CONTENT_TYPE, body)


@pytest.mark.parametrize(
    "content_type", ["", "multipart/mixed", "application/json; boundary=x", "multipart/mixed;=x"]
)
def test_an_answer_of_another_type_is_refused(content_type: str) -> None:
    """Also if its body would do."""
    with pytest.raises(ValueError, match="no multipart/mixed with a boundary"):
        decode(content_type, answer(done()))


AZURE = answer(
    *(
        "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n"
        "Preference-Applied: return-no-content\r\nDataServiceVersion: 3.0;\r\n"
        f"Location: {URL}/T(PartitionKey='p',RowKey='{key}')\r\n"
        f"DataServiceId: {URL}/T(PartitionKey='p',RowKey='{key}')\r\n"
        f"ETag: {ETAG}\r\n\r\n"
        for key in "abc"
    )
)
GOOD = [AZURE, answer(done('W/"1"'), done(), done(None))]


def carefully(content_type: str, body: bytes) -> list[Part] | None:
    """The parts as read without the shortcut, which takes answers of the usual form alone."""
    try:
        return decode(content_type, b"a preamble\r\n" + body)
    except ValueError:
        return None


def at_once(content_type: str, body: bytes) -> list[Part] | None:
    """The parts of which the shortcut gives the etags."""
    etags = read_etags(content_type, body)
    return None if etags is None else [Part(204, etag or None) for etag in etags]


@pytest.mark.parametrize("body", GOOD)
def test_an_answer_of_the_usual_form_is_read_at_once(body: bytes) -> None:
    """With the same result as any other."""
    assert at_once(CONTENT_TYPE, body) == carefully(CONTENT_TYPE, body)
    assert len(read_etags(CONTENT_TYPE, body) or ()) == 3


@st.composite
def disturbed(draw: st.DrawFn) -> bytes:
    """A good answer of which a part was cut out, doubled, moved, replaced or inserted."""
    body = draw(st.sampled_from(GOOD))
    start, middle, end = sorted(draw(st.integers(0, len(body))) for _ in range(3))
    first, second = body[start:middle], body[middle:end]
    noise = draw(
        st.binary(max_size=3)
        | st.sampled_from([b"\r\n", b"\r\n\r\n", b"--", b"\0", b"ETag: x\r\n", b"etag: x\r\n"])
    )
    middle_part = draw(
        st.sampled_from([first, second + first, first + first + second, noise + second])
    )
    return body[:start] + middle_part + body[end:]


@settings(max_examples=400)
@given(disturbed() | st.lists(st.sampled_from(AZURE.splitlines(keepends=True))).map(b"".join))
def test_the_shortcut_takes_nothing_that_a_careful_reading_does_not(body: bytes) -> None:
    """Whatever was done to the answer: it gives the same parts, or it passes."""
    found = at_once(CONTENT_TYPE, body)

    assert found is None or found == carefully(CONTENT_TYPE, body)


PIECES = st.sampled_from(
    [*answer(done(), failed(404, "TableNotFound")).splitlines(keepends=True), b"\n", b"--", b":"]
)


@given(
    content_type=st.sampled_from([CONTENT_TYPE, "multipart/mixed; boundary=\n"]) | st.text(),
    body=st.binary() | st.lists(PIECES | st.binary(max_size=3)).map(b"".join),
)
@example(CONTENT_TYPE, answer(failed(500, "[" * 100_000)))
def test_whatever_is_answered_is_parts_or_refused(content_type: str, body: bytes) -> None:
    """No other exception than the one that the adapter translates."""
    try:
        parts = decode(content_type, body)
    except ValueError:
        return

    assert all(100 <= part.status < 600 for part in parts)
    assert not any(200 <= part.status < 300 and part.error_code for part in parts)


@pytest.mark.parametrize(
    ("header", "body", "code"),
    [
        (None, odata_error("EntityAlreadyExists"), "EntityAlreadyExists"),
        ("Header", odata_error("Body"), "Body"),
        ("Header", "", "Header"),
        ("Header", "{}", "Header"),
        ("Header", '{"odata.error": {}}', "Header"),
        ("Header", '{"odata.error": "x"}', "Header"),
        ("Header", "[1]", "Header"),
        ("Header", "[" * 100_000, "Header"),
        (None, '<?xml version="1.0"?><m:error><m:code> A </m:code><m:message/></m:error>', "A"),
        (None, "<Error><Code>B</Code><Message>&lt;code>C&lt;</Message></Error>", "B"),
        (None, "<html>busy</html>", None),
        (None, "", None),
        (None, '{"odata.error": {"code": 7}}', None),
        (None, '{"odata.error": {"code": "a prompt"}}', None),
        ("x" * 81, "", None),
    ],
)
def test_the_code_of_an_error_is_found(header: str | None, body: str, code: str | None) -> None:
    """In the body first; what is no code is not passed on, since it is logged."""
    assert error_code(header, body) == code


@pytest.mark.parametrize("count", [0, 101])
def test_a_transaction_has_1_to_100_rows(count: int) -> None:
    """What the service would refuse is not sent."""
    with pytest.raises(ValueError, match="1 to 100 rows"):
        encoded(*(Row(key=str(number), columns={}) for number in range(count)))


@pytest.mark.parametrize("etag", [None, "", "1\r\nIf-Match: *", "é"])
def test_a_row_is_changed_only_as_it_was_read(etag: str | None) -> None:
    """Without an etag the service would overwrite whatever is there."""
    with pytest.raises(ValueError, match="must have the etag"):
        encoded(update=[Row(key="a", columns={}, etag=etag)])


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, datetime(2026, 1, 1)])  # noqa: DTZ001
def test_values_that_a_column_cannot_hold_are_refused(value: object) -> None:
    """Numbers of more than 64 bits, and moments without a zone."""
    with pytest.raises(ValueError, match=r"^Column: "):
        encoded(Row(key="a", columns={"Column": value}))


def test_values_of_a_type_that_tables_have_not_are_a_bug() -> None:
    """Not an outage, so it is not retried."""
    with pytest.raises(TypeError, match="Column: list cannot be stored"):
        encoded(Row(key="a", columns={"Column": []}))


@given(key=TEXT, name=TEXT, value=TEXT)
@example("\r\n--changeset_1-2--\r\n--batch_1-2--", "\n--batch_1-2", "\r\n\r\n--changeset_1-2\r\n")
def test_no_text_of_a_row_leaves_its_place(key: str, name: str, value: str) -> None:
    """Whatever a key or a column holds, it begins no line: neither a header nor another request."""
    plain = encoded(Row(key="", columns={"x": ""}), update=[Row(key="", columns={}, etag="1")])
    body = encoded(Row(key=key, columns={name: value}), update=[Row(key=key, columns={}, etag="1")])

    def beginnings(of: bytes) -> list[bytes]:
        return [line[:7] for line in of.splitlines()]

    assert beginnings(body) == beginnings(plain)
