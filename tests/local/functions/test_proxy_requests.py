"""Requests as the worker sees them behind the imitated proxy and behind Microsoft's."""

import pytest

from tests.fakes.scripted_worker import OK, answering
from tests.local.functions.conftest import FrontUnderTest

CLOSE = b"Connection: close\r\n"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a%41%3B\\%5c/x/../y/%2e%2e/z", "aA;%5C%5C/z"),
        ("a%2Fb", "a%252Fb"),
        ("a%2fb", "a%252fb"),
        ("a%252Fb", "a%252Fb"),
        ("%E9%C3%A9%c3%a9", "%25E9%C3%A9%C3%A9"),
        ("%F0%9F%98%80%F0%9F", "%F0%9F%98%80%25F0%259F"),
        ("100%", "100%25"),
        ("a[]{}|^`\"<>~!$&'()*+,;=:@", "a%5B%5D%7B%7D%7C%5E%60%22%3C%3E~!$&'()*+,;=:@"),
        ("x%20y%09%7F%01", "x%20y%09%7F%01"),
        ("a//b/./c/", "a//b/c/"),
        ("..", ""),
        ("b/%2e", "b/"),
        ("x#f?b", "x%23f?b"),
        ("x?", "x?"),
        (
            "q?a=%41b%2f<>\"{}|^`#'\\[]%zz%C3%A9+&",
            "q?a=Ab%2f%3C%3E%22%7B%7D%7C%5E%60%23'%5C[]%25zz%C3%A9+&",
        ),
    ],
)
def test_an_address_is_decoded_and_encoded_anew(
    front: FrontUnderTest, sent: str, seen: str
) -> None:
    """A worker cannot tell an escaped slash from a twice escaped one."""
    front.worker.deliveries.clear()

    answer = front.get(f"/{sent}")

    assert answer.status == 200
    assert [d.line for all_ in front.worker.deliveries.values() for d in all_] == [f"GET /{seen}"]


def test_two_headers_of_a_name_arrive_as_one(front: FrontUnderTest) -> None:
    """Whoever looks for two of a name has to look into the value."""
    path = front.path()
    front.get(
        path,
        "Authorization: Bearer a\r\nAuthorization: Bearer b\r\nCookie: a=1\r\nCookie: b=2\r\n"
        "x-a: 1\r\nX-A: 2\r\nx-ms-invocation-id: mine\r\nx-ms-invocation-id: other\r\n",
    )

    [delivery] = front.delivered(path)
    headers = dict(delivery.headers)
    assert headers["authorization"] == "Bearer a, Bearer b"
    assert headers["cookie"] == "a=1; b=2"
    assert headers["x-a"] == "1, 2"
    assert headers["x-ms-invocation-id"] == "mine, other"
    assert len(headers) == len(delivery.headers)


def test_a_callers_own_invocation_id_takes_the_hosts_place(front: FrontUnderTest) -> None:
    """The invocation runs under the host's: worker and invocation wait for each other."""
    own, path = front.path(), front.path()
    front.get(own, "X-Ms-Invocation-Id: callers\r\n")
    front.get(path)

    [named], [plain] = front.delivered(own), front.delivered(path)
    assert dict(named.headers)["x-ms-invocation-id"] == "callers"
    assert front.worker.invoked[own] != ["callers"]
    assert dict(plain.headers)["x-ms-invocation-id"] == front.worker.invoked[path][0]


def test_headers_of_the_hop_are_replaced_or_dropped(front: FrontUnderTest) -> None:
    """The worker sees the proxy's own host and peer; a header that Connection names stays."""
    path = front.path()
    gone = (
        "TE: trailers\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\n"
        "Proxy-Connection: x\r\nHTTP2-Settings: a\r\nAlt-Svc: a\r\nUpgrade-Insecure-Requests: 1\r\n"
        "Forwarded: for=a\r\n"
    )
    kept = "Via: 1.1 x\r\nProxy-Foo: 1\r\nTrailer: x\r\nX-Forwarded-Port: 1\r\nx-empty: \r\n"
    front.send(
        f"GET {path} HTTP/1.1\r\nHost: My.Host:99\r\nConnection: close, x-a\r\nx-a:  b \r\n"
        f"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n"
        f"{gone}{kept}\r\n".encode()
    )

    [delivery] = front.delivered(path)
    headers = dict(delivery.headers)
    assert headers.pop("x-ms-invocation-id") == front.worker.invoked[path][0]
    assert headers.pop("traceparent")[-3:] == "-00"
    assert headers == {
        "host": front.worker.http_uri.removeprefix("http://"),
        "x-a": "b",
        "via": "1.1 x",
        "proxy-foo": "1",
        "trailer": "x",
        "x-forwarded-port": "1",
        "x-empty": "",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "My.Host:99",
        "x-forwarded-proto": "https",
    }


def test_a_valid_traceparent_is_kept(front: FrontUnderTest) -> None:
    """The call belongs to the caller's trace."""
    path, trace = front.path(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    front.get(path, f"traceparent: {trace}\r\n")

    [delivery] = front.delivered(path)
    assert dict(delivery.headers)["traceparent"] == trace


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"x" * 8_177 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nx: " + b"y" * 32_755 + b"\r\n\r\n", 431),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET / http/1.1\r\nHost: h\r\n\r\n", 505),
        (b"GET /\r\nHost: h\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"GET / HTTP/1.0\r\n\r\n", 500),
        *(
            (b"POST / HTTP/1.1\r\nHost: h\r\n" + header + b"\r\n\r\n", 400)
            for header in (
                b"x: \xe9",
                b"x: a\0b",
                b"x: a\rb",
                b"x y: b",
                b"x : b",
                b"x: b\r\n folded",
                b"novalue",
                b": x",
                b"Content-Length: 1\r\nContent-Length: 1",
                b"Content-Length: 1, 1",
                b"Content-Length: -1",
                b"Content-Length: 0x2",
                b"Transfer-Encoding: identity",
                b"Transfer-Encoding: xchunked",
                b"Transfer-Encoding: chunked, gzip",
            )
        ),
    ],
)
def test_what_the_proxy_refuses_never_reaches_the_worker(
    front: FrontUnderTest, raw: bytes, status: int
) -> None:
    """It answers without a body and closes."""
    front.worker.deliveries.clear()

    answer = front.send(raw)

    assert (answer.status, answer.body, answer.end) == (status, b"", "fin")
    assert front.worker.deliveries == {}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"TRACE /x HTTP/1.1\r\nHost: h\r\n", 404),
        (b"GET //x HTTP/1.1\r\nHost: h\r\n", 404),
        (b"GET /x HTTP/1.1\r\nHost: \r\n", 500),
        (
            b"OPTIONS /x HTTP/1.1\r\nHost: h\r\nOrigin: a\r\nAccess-Control-Request-Method: POST\r\n",
            204,
        ),
    ],
)
def test_what_the_host_answers_itself_never_reaches_the_worker(
    front: FrontUnderTest, raw: bytes, status: int
) -> None:
    """Other methods, paths that begin with two slashes, preflights."""
    front.worker.deliveries.clear()

    answer = front.send(raw + CLOSE + b"\r\n")

    assert (answer.status, answer.body) == (status, b"")
    assert front.worker.deliveries == {}


@pytest.mark.parametrize(
    ("line", "headers", "body", "seen"),
    [
        ("post {}", "Content-Length: +2", b"hi", "POST"),
        ("POST {}", "Content-Length: 02", b"hi", "POST"),
        (
            "POST {}",
            "Transfer-Encoding: gzip, chunked",
            b"2;x=1\r\nhi\r\n0\r\nT: x\r\n\r\n",
            "POST",
        ),
        ("POST {}", "Transfer-Encoding: chunked, chunked", b"2\r\nhi\r\n0\r\n\r\n", "POST"),
        ("POST http://h{}", "Content-Length: 2", b"hi", "POST"),
        ("Put {}", "x: a\x01\x7f\tb\r\nContent-Length: 2", b"hi", "PUT"),
    ],
)
def test_odd_requests_are_made_regular(
    front: FrontUnderTest, line: str, headers: str, body: bytes, seen: str
) -> None:
    """What the proxy takes, the worker gets in one form."""
    path = front.path()
    head = f"{line.format(path)} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n\r\n"

    answer = front.send(head.encode() + body)

    [delivery] = front.delivered(path)
    assert answer.status == 200
    assert (delivery.line, delivery.body) == (f"{seen} {path}", b"hi")
    lengths = [pair for pair in delivery.headers if pair[0] in {"content-length", "te"}]
    assert lengths in ([("content-length", "2")], [])


def test_a_length_beside_chunks_is_hidden_from_the_worker(front: FrontUnderTest) -> None:
    """Chunks win, and the connection is closed after the answer."""
    path = front.path()
    answer = front.send(
        f"POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n"
        "\r\n2\r\nhi\r\n0\r\n\r\n".encode()
    )

    [delivery] = front.delivered(path)
    headers = dict(delivery.headers)
    assert (headers["x-content-length"], delivery.body) == ("9", b"hi")
    assert "content-length" not in headers
    assert (answer.status, answer.end) == (200, "fin")


def test_the_limits_themselves_are_within(front: FrontUnderTest) -> None:
    """A line of 8,192 bytes; 100 headers; 32,768 bytes of them."""
    long_line = b"GET /" + b"x" * 8_176 + b" HTTP/1.1\r\nHost: h\r\n" + CLOSE + b"\r\n"
    many = b"GET /x HTTP/1.1\r\nHost: h\r\n" + CLOSE + b"x: y\r\n" * 98 + b"\r\n"
    own = b"Host: h\r\n" + CLOSE
    large = b"x: " + b"y" * (32_768 - len(own) - 5) + b"\r\n"

    answers = [
        front.send(raw) for raw in (long_line, many, b"GET /x HTTP/1.1\r\n" + own + large + b"\r\n")
    ]

    assert [answer.status for answer in answers] == [200, 200, 200]


def test_a_connection_serves_one_request_after_the_other(front: FrontUnderTest) -> None:
    """Pipelined ones too, and one whose body nobody wanted."""
    path = front.path()
    with front.connect() as connection:
        connection.sendall(
            f"POST //x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
            f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\nGET {path} HTTP/1.1\r\nHost: h\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        connection.settimeout(10)
        data = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert data.count(b"HTTP/1.1 404 ") == 1
    assert data.count(b"HTTP/1.1 200 ") == 2


def test_a_caller_that_expects_100_gets_it_or_the_answer(front: FrontUnderTest) -> None:
    """An answer before a body of over 1,024 bytes spares the caller the body."""
    refused = front.path(answering(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"))
    asked = front.path(answering(b"HTTP/1.1 100 Continue\r\n\r\n", 0.2, OK))
    expect = "Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n"
    with front.connect() as connection:
        connection.sendall(f"POST {refused} HTTP/1.1\r\nHost: h\r\n{expect}".encode())
        early = connection.recv(65_536)
    with front.connect() as connection:
        connection.sendall(f"POST {asked} HTTP/1.1\r\nHost: h\r\n{expect}".encode())
        interim = connection.recv(65_536)

    assert early.startswith(b"HTTP/1.1 413 ")
    assert interim.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
