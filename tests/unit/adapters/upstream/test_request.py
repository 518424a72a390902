"""A request's bytes: where they go, and that no header can add to them."""

from collections.abc import AsyncIterator

import pytest

from meter.adapters.upstream.request import Address, InvalidAddress, encode_head, locate
from meter.ports import Headers, UpstreamRequest


async def two_bytes() -> AsyncIterator[bytes]:
    yield b"{}"


def request(
    *, method: str = "POST", headers: Headers = (), body: bytes | None = b"{}"
) -> UpstreamRequest:
    return UpstreamRequest(
        backend="a",
        method=method,
        url="http://a/x",
        headers=headers,
        body=two_bytes if body is None else body,
    )


def lines(made: UpstreamRequest) -> list[bytes]:
    head = encode_head(made, Address("a", 80, False, "a:81"), "/x").data
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


@pytest.mark.parametrize(
    ("url", "address", "target"),
    [
        ("http://a/x?y=%2F", Address("a", 80, False, "a"), "/x?y=%2F"),
        ("https://A.example:8443/", Address("a.example", 8443, True, "a.example:8443"), "/"),
        ("https://a:443/x#y", Address("a", 443, True, "a"), "/x"),
        ("http://a", Address("a", 80, False, "a"), "/"),
        ("http://[::1]:81/x", Address("::1", 81, False, "[::1]:81"), "/x"),
        ("http://a//x", Address("a", 80, False, "a"), "//x"),
        ("http://a/?u=http://b/c", Address("a", 80, False, "a"), "/?u=http://b/c"),
    ],
)
def test_a_url_names_a_server_and_a_target(url: str, address: Address, target: str) -> None:
    """The target is sent as it is written."""
    assert locate(url) == (address, target)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "http:///x",
        "http://:1/",
        "http://a:99999/",
        "http://a:0/",
        "http://a:x/",
        "ftp://a/",
        "http://user:password@a/",
        "http://a?x",
        "http://a/x y",
        "http://a/x\r\nhost: b",
        "http://a/\u00e9",
        "http://[::1/x",
    ],
)
def test_other_urls_are_invalid(url: str) -> None:
    """Nothing is called that was not meant."""
    with pytest.raises(InvalidAddress):
        locate(url)


def test_headers_go_out_in_their_order() -> None:
    """After the host, and before the framing, which is never the caller's."""
    headers = (
        ("host", "b"),
        ("x-b", "1"),
        ("user-agent", "u"),
        ("x-a", "2"),
        ("content-length", "9"),
        ("transfer-encoding", "chunked"),
        ("accept", "text/plain"),
    )

    assert lines(request(headers=headers)) == [
        b"POST /x HTTP/1.1",
        b"host: a:81",
        b"x-b: 1",
        b"user-agent: u",
        b"x-a: 2",
        b"accept: text/plain",
        b"content-length: 2",
    ]


def test_a_request_says_what_it_accepts_and_who_asks() -> None:
    """Where the caller did not."""
    assert lines(request())[2:4] == [b"accept: */*", b"user-agent: aoai-meter"]


@pytest.mark.parametrize(
    ("made", "framing"),
    [
        (request(), b"content-length: 2"),
        (request(body=b""), b"content-length: 0"),
        (request(method="PUT", body=b""), b"content-length: 0"),
        (request(body=None), b"transfer-encoding: chunked"),
        (request(body=None, headers=(("content-length", "7"),)), b"content-length: 7"),
    ],
)
def test_a_body_is_framed(made: UpstreamRequest, framing: bytes) -> None:
    """By its length where that is known, else in chunks (RFC 9112 section 6)."""
    assert lines(made)[-1] == framing


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_no_body_is_no_length(method: str) -> None:
    """Of a method without a meaning for one."""
    assert b"content-length" not in b" ".join(lines(request(method=method, body=b"")))


@pytest.mark.parametrize("text", ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "\r\n", "\u20ac", "\udcff"])
@pytest.mark.parametrize("place", ["name", "value", "method"])
def test_what_no_header_can_hold_is_refused(text: str, place: str) -> None:
    """It could begin another header, or another request."""
    headers = {"name": ((text, "v"),), "value": (("x", text),)}.get(place, ())
    made = request(headers=headers, method=text if place == "method" else "POST")
    with pytest.raises(ValueError, match=r"line break|codec"):
        encode_head(made, Address("a", 80, False, "a"), "/x")


@pytest.mark.parametrize("length", ["x", "", "-1", "1_0", "\u0661"])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    """A backend would read another one."""
    with pytest.raises(ValueError, match="length"):
        encode_head(
            request(body=None, headers=(("content-length", length),)),
            Address("a", 80, False, "a"),
            "/",
        )
