"""The upstream client beside one on aiohttp: what backends send means the same to both."""

import pytest

from meter.adapters.upstream.client import HttpUpstream
from tests.support.aiohttp_upstream import AiohttpUpstream
from tests.support.wire import End, Outcome, Script, outcome, playing, post

H = b"HTTP/1.1 200 OK\r\n"
CHUNKED = H + b"transfer-encoding: chunked\r\n\r\n"
TWO = b"content-length: 2\r\n\r\n{}"

type Client = type[HttpUpstream] | type[AiohttpUpstream]

GOOD = {
    "length": H + TWO,
    "no length": H + b"content-length: 0\r\n\r\n",
    "chunks": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "chunks, upper case": H + b"Transfer-Encoding: ChunKed\r\n\r\nA\r\n{23456789}\r\n0\r\n\r\n",
    "extensions and trailers": CHUNKED + b"2;a=b\r\n{}\r\n0;x\r\nx-t: 1\r\n\r\n",
    "space after a size": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "HTTP/1.0 that stays": b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + TWO,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + TWO,
    "will close": H + b"connection: close\r\n" + TWO,
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204, chunked": b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nretry-after-ms: 0\r\nRetry-After: 30\r\n" + TWO,
    "999": b"HTTP/1.1 999 x\r\n" + TWO,
    "interim heads": b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: a\r\n\r\n" + H + TWO,
    "no reason": b"HTTP/1.1 200\r\n" + TWO,
    "bare LF in the head": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "folded header": H + b"x: a\r\n b\r\n" + TWO,
    "control characters": H + b"x: a\x01\xffb \t\r\n" + TWO,
    "UTF-8, empty value": H + b"x: \xc3\xa9\r\nX-Empty:\r\n" + TWO,
    "repeated headers": H + b"X-A: 1\r\nset-cookie: a\r\nx-a: 2\r\nset-cookie: b\r\n" + TWO,
    "two types": H + b"content-type: a\r\ncontent-type: b\r\n" + TWO,
    "128 headers": H + b"x: 1\r\n" * 127 + TWO,
    "long header": H + b"x: " + b"a" * 65_000 + b"\r\n" + TWO,
    "blank lines before": b"\r\n\r\n" + H + TWO,
    "blank line after": H + TWO + b"\r\n",
    "encoded body": H + b"content-encoding: gzip\r\n" + TWO,
    "offer of an upgrade": H + b"upgrade: h2c\r\nconnection: upgrade\r\n" + TWO,
}
UNTIL_CLOSED = {
    "until closed": H + b"\r\nabc",
    "until closed, HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nabc",
    "until closed, would stay": H + b"connection: keep-alive\r\n\r\nabc",
}
HOSTILE = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": H + b"x-half: ",
    "garbage": b"\x16\x03\x01nonsense\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n{}",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + TWO,
    "99": b"HTTP/1.1 99 x\r\n" + TWO,
    "2000": b"HTTP/1.1 2000 x\r\n" + TWO,
    "only an interim head": b"HTTP/1.1 100 Continue\r\n\r\n",
    "length and chunks": H
    + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and length": H
    + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": H + b"content-length: 2\r\n" + TWO,
    "two lengths in one": H + b"content-length: 2, 2\r\n\r\n{}",
    "signed length": H + b"content-length: +2\r\n\r\n{}",
    "negative length": H + b"content-length: -2\r\n\r\n{}",
    "2^64 as length": H + b"content-length: 18446744073709551616\r\n\r\n{}",
    "empty length": H + b"content-length: \r\n\r\n{}",
    "hexadecimal length": H + b"content-length: 0x2\r\n\r\n{}",
    "too short": H + b"content-length: 10\r\n\r\nhalf",
    "2^64 as size": CHUNKED + b"10000000000000000\r\n{}",
    "2^64-1 as size": CHUNKED + b"ffffffffffffffff\r\n{}",
    "negative size": CHUNKED + b"-2\r\n{}",
    "empty size": CHUNKED + b"\r\n",
    "bare LF in chunks": CHUNKED + b"2\n{}\n0\n\n",
    "cut in a chunk": CHUNKED + b"4\r\nhalf\r\n9\r\nx",
    "cut between chunks": CHUNKED + b"4\r\nhalf\r\n",
    "cut in the last chunk": CHUNKED + b"2\r\n{}\r\n0\r\n",
    "size that is none": CHUNKED + b"4\r\nhalf\r\nzz\r\n",
    "chunk that is too long": CHUNKED + b"2\r\n{}xx0\r\n\r\n",
    "length as trailer": CHUNKED + b"2\r\n{}\r\n0\r\ncontent-length: 5\r\n\r\n",
    "trailer without a name": CHUNKED + b"2\r\n{}\r\n0\r\n:\r\n\r\n",
    "NUL in a value": H + b"x: a\0b\r\n" + TWO,
    "NUL in a name": H + b"x\0: a\r\n" + TWO,
    "CR in a value": H + b"x: a\rb\r\n" + TWO,
    "space after a name": H + b"x : a\r\n" + TWO,
    "no name": H + b": a\r\n" + TWO,
    "no colon": H + b"x\r\n" + TWO,
    "129 headers": H + b"x: 1\r\n" * 128 + TWO,
    "endless header": H + b"x: " + b"a" * 400_000,
}
# Where RFC 9112 wants something else than aiohttp does: what ours makes of it.
BROKEN = Outcome(error="UpstreamBroken")
STRICTER = {
    "gzip, then chunks": (
        H + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        BROKEN,
    ),
    "chunks, then gzip": (H + b"transfer-encoding: chunked, gzip\r\n\r\n{}", BROKEN),
    "chunks twice": (
        H + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n2\r\n{}\r\n0\r\n\r\n",
        BROKEN,
    ),
    "identity": (H + b"transfer-encoding: identity\r\n\r\n{}", BROKEN),
    "switched protocols": (b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", BROKEN),
    "status 000": (b"HTTP/1.1 000 x\r\n" + TWO, BROKEN),
    "2^64-1 as length": (
        H + b"content-length: 18446744073709551615\r\n\r\n{}",
        Outcome(200, (("content-length", "18446744073709551615"),), b"{}", "UpstreamBroken"),
    ),
    "garbage behind": (H + TWO + b"garbage", Outcome(200, (("content-length", "2"),), b"{}")),
    "body of a 204": (
        b"HTTP/1.1 204 x\r\ncontent-length: 2\r\n\r\n{}",
        Outcome(204, (("content-length", "2"),)),
    ),
}


async def played(
    client: Client, script: Script, *, method: str = "POST", idle_seconds: float = 60
) -> tuple[Outcome, bool]:
    """What becomes of a call, and whether its connection is used for the next one."""
    upstream = client(connect_timeout_seconds=30, idle_timeout_seconds=idle_seconds)
    async with playing(script) as backend:
        body = b'{"a":1}' if method == "POST" else b""
        request = post(backend.url, method=method, body=body)
        first = await outcome(upstream, request, seconds=60)
        is_kept = False
        if script.end is End.KEEP:
            assert await outcome(upstream, request, seconds=60) == first
            is_kept = backend.connections == 1
        await upstream.close()
    return first, is_kept


def comparable(found: Outcome) -> Outcome:
    """How much came before a fault is a matter of timing, and aiohttp keeps what it had not given out."""
    return BROKEN if found.error == "UpstreamBroken" else found


def splits(data: bytes) -> list[list[bytes]]:
    half = len(data) // 2
    return [[data], [data[:half], data[half:]], [data[:-3], data[-3:]]]


@pytest.mark.parametrize("name", GOOD)
async def test_answers_mean_the_same(name: str) -> None:
    """Status, headers and body; and the connection serves the next call unless it will close."""
    for parts in splits(GOOD[name]):
        for end in (End.KEEP, End.CLOSE, End.SHUT):
            script = Script(parts, end)
            ours, is_kept = await played(HttpUpstream, script)
            theirs, _ = await played(AiohttpUpstream, script)

            assert ours == theirs
            assert ours.error is None
            assert is_kept == (end is End.KEEP and name not in {"will close", "HTTP/1.0"})


@pytest.mark.parametrize("name", UNTIL_CLOSED)
async def test_answers_that_end_with_their_connection_mean_the_same(name: str) -> None:
    """A reset is no end, however; aiohttp takes it for one."""
    for parts in splits(UNTIL_CLOSED[name]):
        for end in (End.CLOSE, End.SHUT):
            ours, _ = await played(HttpUpstream, Script(parts, end))
            theirs, _ = await played(AiohttpUpstream, Script(parts, end))
            assert ours == theirs
            assert (ours.error, ours.body) == (None, b"abc")
        cut, _ = await played(HttpUpstream, Script(parts, End.RESET))
        assert cut.error == "UpstreamBroken"


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_no_answer_is_broken_for_both(name: str) -> None:
    """However it ends: it never looks like a clean end."""
    for parts in splits(HOSTILE[name]):
        for end in (End.CLOSE, End.SHUT, End.RESET):
            ours, _ = await played(HttpUpstream, Script(parts, end))
            theirs, _ = await played(AiohttpUpstream, Script(parts, end))

            assert comparable(ours) == comparable(theirs) == BROKEN


@pytest.mark.parametrize("name", ["too short", "cut between chunks", "half a head", "nothing"])
async def test_silence_is_the_same_fault_for_both(name: str) -> None:
    """A timeout before the head is there, broken after it."""
    script = Script([HOSTILE[name]], End.KEEP)
    ours, _ = await played(HttpUpstream, script, idle_seconds=0.2)
    theirs, _ = await played(AiohttpUpstream, script, idle_seconds=0.2)

    assert (ours.error, ours.status) == (theirs.error, theirs.status)
    assert ours.error == ("UpstreamBroken" if ours.status else "UpstreamTimeout")


@pytest.mark.parametrize("name", STRICTER)
async def test_ours_follows_the_standard_where_aiohttp_does_not(name: str) -> None:
    """Nothing is guessed of a framing that was not asked for; what follows an answer is not its fault."""
    data, expected = STRICTER[name]
    for parts in splits(data):
        ours, _ = await played(HttpUpstream, Script(parts, End.CLOSE))
        theirs, _ = await played(AiohttpUpstream, Script(parts, End.CLOSE))

        assert ours == expected
        assert ours != theirs or name in {"garbage behind", "body of a 204"}


@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
async def test_other_methods_mean_the_same(method: str, status: bytes) -> None:
    """The answer to HEAD has a length, and no body."""
    head = b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n"
    script = Script([head if method == "HEAD" else head + b"{}"], End.KEEP)
    ours, is_kept = await played(HttpUpstream, script, method=method)
    theirs, _ = await played(AiohttpUpstream, script, method=method)

    assert ours == theirs
    assert (ours.error, is_kept) == (None, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_requests_are_written_alike(method: str, body: bytes) -> None:
    """Line, headers and body; but the client's name, and what the gateway always sets."""
    written = []
    for client in (HttpUpstream, AiohttpUpstream):
        upstream = client(connect_timeout_seconds=5, idle_timeout_seconds=5)
        async with playing(Script([H + b"content-length: 0\r\n\r\n"])) as backend:
            await outcome(upstream, post(f"{backend.url}/x?a=%2F%20", method=method, body=body))
            port = backend.url.rpartition(":")[2].encode()
            head, _, sent = backend.requests[0].replace(port, b"PORT").partition(b"\r\n\r\n")
            line, *headers = head.split(b"\r\n")
            named = {
                each.lower()
                for each in headers
                if not each.lower().startswith((b"user-agent", b"accept-encoding"))
            }
            written.append((line, named, sent))
        await upstream.close()

    assert written[0] == written[1]
