"""An answer fed by hand: where it ends, what it holds, and when it stops the connection."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.adapters.upstream.answer import (
    MAX_FRAMING_BYTES,
    MAX_HEADERS,
    MAX_HELD_BYTES,
    Answer,
)
from meter.errors import UpstreamBroken
from meter.waiting.bypass import Bypass
from tests.fakes.virtual_time import VirtualTimeLoop

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\n{}"


@dataclass
class FakeLine:
    """What an answer did to its connection."""

    told: list[str] = field(default_factory=list)

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def drop(self) -> None:
        self.told.append("drop")


def fed(*parts: bytes, is_for_head: bool = False, line: FakeLine | None = None) -> Answer:
    answer = Answer("a", line or FakeLine(), is_for_head=is_for_head, idle_timeout_seconds=10)
    for part in parts:
        answer.feed(part)
    return answer


async def body(answer: Answer) -> bytes:
    return b"".join([chunk async for chunk in answer.chunks()])


def in_no_time[T](scenario: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (WHOLE, b"{}"),
        (OK + b"content-length: 0\r\n\r\n", b""),
        (CHUNKED + b"2;a=b\r\n{}\r\n0\r\n\r\n", b"{}"),
        (CHUNKED + b"1\r\n{\r\n001 \r\n}\r\n0;x\r\nx-trailer: 1\r\n\r\n", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + WHOLE, b"{}"),
    ],
)
async def test_an_answer_ends_where_it_says(data: bytes, expected: bytes) -> None:
    """And its connection serves another request (RFC 9112 sections 6 and 9)."""
    answer = fed(data)

    assert (answer.is_over, answer.may_reuse, answer.error) == (True, True, None)
    assert await body(answer) == expected


async def test_interim_heads_leave_nothing_behind() -> None:
    """Their headers are not the answer's."""
    answer = fed(
        b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + OK + b"x: 1\r\ncontent-length: 0\r\n\r\n"
    )

    assert (answer.status, answer.headers) == (200, (("x", "1"), ("content-length", "0")))


async def test_trailers_are_no_headers() -> None:
    """They arrive once the head has been used."""
    answer = fed(CHUNKED + b"0\r\nx: 1\r\n\r\n")

    assert answer.headers == (("transfer-encoding", "chunked"),)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_without_a_length_ends_with_its_connection(version: bytes) -> None:
    """Only a clean end is its end; a reset cut it off."""
    cleanly, cut = (fed(b"HTTP/" + version + b" 200 OK\r\n\r\nab", b"c") for _ in range(2))
    assert not cleanly.is_over
    cleanly.end_of_input()
    cut.end_of_input(ConnectionResetError())

    assert (await body(cleanly), cleanly.may_reuse) == (b"abc", False)
    with pytest.raises(UpstreamBroken):
        await body(cut)


@pytest.mark.parametrize("head", [WHOLE[:-2], CHUNKED, b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_the_answer_to_head_is_a_head(head: bytes) -> None:
    """Whatever length it names (RFC 9110 section 9.3.2)."""
    answer = fed(head, is_for_head=True)

    assert (answer.is_over, answer.status, await body(answer)) == (True, 200, b"")


@pytest.mark.parametrize("end", [b"connection: close\r\n", b"Connection: x, Close\r\n"])
async def test_a_connection_that_will_close_is_not_used_again(end: bytes) -> None:
    """Nor is one of HTTP/1.0, which does not stay by itself."""
    answers = [fed(OK + end + WHOLE[len(OK) :]), fed(WHOLE.replace(b"/1.1", b"/1.0"))]

    assert [(each.is_over, each.may_reuse) for each in answers] == [(True, False), (True, False)]


@pytest.mark.parametrize(
    "surplus", [b"x", b"garbage\r\n\r\n", b"\0", WHOLE, WHOLE[:9], b"\r\n\r\nH"]
)
@pytest.mark.parametrize(
    "whole",
    [
        WHOLE,
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 204 x\r\n\r\n",
        b"HTTP/1.1 304 x\r\ncontent-length: 1\r\n\r\n",
        OK + b"connection: close\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_what_follows_an_answer_is_nobodys(whole: bytes, surplus: bytes) -> None:
    """The answer stands; the connection is not used again (RFC 9112 section 9.2)."""
    answer = fed(whole + surplus)
    expected = fed(whole)

    assert (answer.is_over, answer.may_reuse, answer.error) == (True, False, None)
    assert (answer.status, answer.headers) == (expected.status, expected.headers)
    assert await body(answer) == await body(expected)


@pytest.mark.parametrize("extra", [b"{}", WHOLE])
async def test_a_body_after_the_answer_to_head_is_nobodys(extra: bytes) -> None:
    """It must not be taken for the next answer."""
    answer = fed(WHOLE[:-2] + extra, is_for_head=True)

    assert (answer.is_over, answer.may_reuse, await body(answer)) == (True, False, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/1.1 000 x\r\n\r\n",
        b"HTTP/1.1 020 x\r\n\r\n",
        b"HTTP/1.1 2000 x\r\n\r\n",
        b"HTTP/1.1 -20 x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        OK + b"x: a\0b\r\n\r\n",
        OK + b"x: a\rb\r\n\r\n",
        OK + b"x : a\r\n\r\n",
        OK + b": a\r\n\r\n",
        OK + b"x\0: a\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"content-length: -2\r\n\r\n",
        OK + b"content-length: +2\r\n\r\n",
        OK + b"content-length: 0x2\r\n\r\n",
        OK + b"content-length: 2, 2\r\n\r\n",
        OK + b"content-length: \r\n\r\n",
        OK + b"content-length: 18446744073709551616\r\n\r\n",
        OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\n",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked, gzip\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: identity\r\n\r\n",
        OK + b"x: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    ],
)
async def test_what_is_no_answer_is_broken(data: bytes) -> None:
    """Before its head is used, so that the next backend can be asked."""
    line = FakeLine()
    answer = fed(data, line=line)

    assert (answer.is_over, answer.status, answer.may_reuse) == (True, 0, False)
    assert (answer.error is not None, line.told) == (True, ["drop"])


@pytest.mark.parametrize(
    "rest",
    [
        b"10000000000000000\r\n",
        b"-2\r\n{}",
        b"+2\r\n{}",
        b"0x2\r\n{}",
        b"zz\r\n",
        b"\r\n",
        b"2\n{}\n0\n\n",
        b"2\r\n{}xx0\r\n\r\n",
        b"2\r\n{}\r\n0\r\ncontent-length: 5\r\n\r\n",
        b"2\r\n{}\r\n0\r\n:\r\n\r\n",
    ],
)
async def test_chunks_that_are_none_break_the_answer(rest: bytes) -> None:
    """What came before is given out; the end is never clean."""
    answer = fed(CHUNKED, rest)
    answer.end_of_input()

    assert (answer.status, answer.is_over, answer.may_reuse) == (200, True, False)
    with pytest.raises(UpstreamBroken):
        await body(answer)


@pytest.mark.parametrize("cut", range(1, len(CHUNKED) + 13))
async def test_a_cut_is_never_a_clean_end(cut: int) -> None:
    """Wherever it is."""
    whole = CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"
    answer = fed(whole[: cut - 1], whole[cut - 1 : cut])
    answer.end_of_input()

    assert (answer.error is None) == (cut == len(whole))


async def test_many_headers_and_folded_ones_are_read() -> None:
    """As far as servers really send them."""
    answer = fed(OK + b"x: 1\r\n" * (MAX_HEADERS - 1) + b"y: a\r\n  b\r\n\r\n")

    assert (len(answer.headers), answer.headers[-1]) == (MAX_HEADERS, ("y", "a  b"))


async def test_header_bytes_survive() -> None:
    """Also those that are not UTF-8."""
    answer = fed(OK + b"X-A: \xc3\xa9 \xff\t \r\nX-B:\r\ncontent-length: 0\r\n\r\n")

    assert [value.encode("utf-8", "surrogateescape") for _, value in answer.headers[:2]] == [
        b"\xc3\xa9 \xff",
        b"",
    ]


@given(st.lists(st.binary(max_size=8).filter(lambda value: not set(value) & set(b"\r\n\0"))))
@example([b"\xe2\x82", b"\xac", b""])  # a character cut in two
async def test_values_are_read_together_as_each_alone(values: list[bytes]) -> None:
    """Whatever bytes they are: neither sees what is next to it."""
    head = b"".join([b"x-%d: %b\r\n" % pair for pair in enumerate(values)])
    answer = fed(OK + head + b"content-length: 0\r\n\r\n")

    assert [value for _, value in answer.headers[:-1]] == [
        each.strip(b" \t").decode("utf-8", "surrogateescape") for each in values
    ]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK + b"x: ", b"a" * 4096),
        (b"HTTP/1.1 200 ", b"a" * 4096),
        (OK, b"x: a\r\n" * 8 + b"y: " + b"b" * 30_000 + b"\r\n"),
        (b"", b"\r\n" * 2048),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (CHUNKED, b"1;" + b"a" * 4096),
        (CHUNKED, b"0" * 4096),
        (CHUNKED + b"0\r\nx: ", b"a" * 4096),
        (CHUNKED + b"0\r\n", b"x: a\r\n" * 600),
    ],
)
async def test_headers_without_end_break_the_answer(begin: bytes, more: bytes) -> None:
    """Before they take much memory: heads, interim ones, trailers, chunk sizes and their extensions."""
    line = FakeLine()
    answer = fed(begin, line=line)
    fed_bytes = 0
    while not answer.is_over:
        answer.feed(more)
        fed_bytes += len(more)

    assert answer.error is not None
    assert fed_bytes <= MAX_FRAMING_BYTES + len(more)
    assert line.told == ["drop"]


async def test_a_long_stream_of_small_chunks_is_not_too_much_framing() -> None:
    """Its chunk sizes come to more than the bound, but a body is between them."""
    answer = fed(CHUNKED)
    for _ in range(MAX_FRAMING_BYTES // 4):
        answer.feed(b"1\r\na\r\n")

    assert answer.error is None


async def test_a_slow_reader_stops_the_connection() -> None:
    """No more is held than the bound and one arrival; reading it lets the rest come."""
    line = FakeLine()
    answer = fed(OK + b"content-length: 1000000\r\n\r\n", line=line)
    for _ in range(5):
        answer.feed(bytes(MAX_HELD_BYTES // 2))
    paused = list(line.told)
    first = await anext(answer.chunks())

    assert (paused, line.told) == (["pause"], ["pause", "resume"])
    assert len(first) == MAX_HELD_BYTES // 2 * 5


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    """The next read goes on."""
    answer = fed(CHUNKED)
    reading = asyncio.ensure_future(anext(answer.chunks()))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    answer.feed(b"2\r\n{}\r\n0\r\n\r\n")

    assert await body(answer) == b"{}"


def bypass_to(taken: list[bytes], *, refuses: bytes = b"") -> Bypass:
    """An open bypass that takes all parts but one."""

    def take(part: bytes) -> bool:
        if part == refuses:
            return False
        taken.append(part)
        return True

    bypass = Bypass(taker=take)
    bypass.open()
    return bypass


async def test_a_part_that_is_awaited_takes_the_bypass() -> None:
    """What it does not take goes to the reader, in order."""
    answer, taken = fed(CHUNKED), list[bytes]()
    bypass = bypass_to(taken, refuses=b"b")
    reading = asyncio.ensure_future(anext(answer.chunks(bypass)))
    await asyncio.sleep(0)
    for part in (b"1\r\na\r\n", b"1\r\nb\r\n"):
        answer.feed(part)

    assert (taken, await reading) == ([b"a"], b"b")


async def test_a_part_passes_none_that_came_before_it() -> None:
    """While the reader is busy all parts are kept; and several that arrive at once are one chunk."""
    answer, taken = fed(CHUNKED), list[bytes]()
    chunks = answer.chunks(bypass_to(taken, refuses=b"ab"))
    reading = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    answer.feed(b"1\r\na\r\n1\r\nb\r\n")
    first = await reading
    for part in (b"1\r\nc\r\n", b"1\r\nd\r\n"):
        answer.feed(part)

    assert (first, await anext(chunks), taken) == (b"ab", b"cd", [])


async def test_parts_that_arrive_at_once_take_the_bypass_together() -> None:
    """As the reader would get them."""
    answer, taken = fed(CHUNKED), list[bytes]()
    reading = asyncio.ensure_future(anext(answer.chunks(bypass_to(taken, refuses=b"c"))))
    await asyncio.sleep(0)
    answer.feed(b"1\r\na\r\n1\r\nb\r\n")
    answer.feed(b"1\r\nc\r\n")

    assert (taken, await reading) == ([b"ab"], b"c")


async def test_the_last_part_is_the_readers() -> None:
    """It comes with the end, which the reader waits for."""
    answer, taken = fed(CHUNKED), list[bytes]()
    chunks = answer.chunks(bypass_to(taken))
    reading = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    answer.feed(b"1\r\na\r\n0\r\n\r\n")

    assert (await reading, [chunk async for chunk in chunks], taken) == (b"a", [], [])


async def test_an_unread_answer_that_is_closed_is_dropped() -> None:
    """Its rest would be the next call's; one that is over needs nothing."""
    unread, whole = FakeLine(), FakeLine()
    await fed(WHOLE[:-1], line=unread).close()
    await fed(WHOLE, line=whole).close()

    assert (unread.told, whole.told) == (["drop"], [])


async def test_a_reader_learns_that_the_answer_was_closed() -> None:
    """It does not wait for ever."""
    answer = fed(CHUNKED)
    reading = asyncio.ensure_future(body(answer))
    await asyncio.sleep(0)
    await answer.close()

    with pytest.raises(UpstreamBroken):
        await reading


def test_an_answer_that_stands_still_is_broken() -> None:
    """After the idle time since something last arrived, not since its beginning."""

    async def scenario() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        answer = fed(CHUNKED)
        begun = loop.time()
        for seconds in (9, 18, 27):
            loop.call_at(begun + seconds, answer.feed, b"1\r\na\r\n")
        got = b""
        try:
            async for chunk in answer.chunks():
                got += chunk
        except UpstreamBroken:
            return got, loop.time() - begun
        raise AssertionError("a clean end")

    got, seconds = in_no_time(scenario())

    assert (got, round(seconds)) == (b"aaa", 37)


def test_a_slow_reader_is_no_backends_silence() -> None:
    """While the connection is paused nothing can arrive."""

    async def scenario() -> bool:
        answer = fed(CHUNKED, b"%x\r\n" % 1_000_000, bytes(MAX_HELD_BYTES + 1))
        await asyncio.sleep(100)
        await anext(answer.chunks())
        await asyncio.sleep(9)
        is_over = answer.is_over
        await asyncio.sleep(2)
        return not is_over and answer.is_over

    assert in_no_time(scenario())


def test_an_answer_that_is_over_has_no_timer() -> None:
    """Nothing of it stays in the event loop."""

    async def scenario() -> None:
        answer = fed(CHUNKED)
        answer.feed(b"0\r\n\r\n")
        await asyncio.sleep(100)
        assert answer.error is None

    in_no_time(scenario())


def cut_at(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, int, bytes]:
    """An answer's bytes, its status and its body."""
    status = draw(st.sampled_from([200, 201, 400, 429, 500, 503]))
    parts = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 103 E\r\na: b\r\n\r\n"])
    )
    head = interim + b"HTTP/1.1 %d X\r\nx-a: b\r\n" % status
    whole = b"".join(parts)
    if draw(st.booleans()):
        extension = draw(st.sampled_from([b"", b";a=b", b';a="b"']))
        chunks = b"".join(b"%X%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
        trailer = draw(st.sampled_from([b"", b"x-t: 1\r\n"]))
        framed = b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"
    else:
        framed = b"content-length: %d\r\n\r\n%b" % (len(whole), whole)
    return head + framed, status, whole


@settings(max_examples=150)
@given(made=answers(), cuts=st.lists(st.integers(0, 10_000), max_size=8))
@example(made=(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", 200, b"{}"), cuts=list(range(70)))
async def test_it_does_not_matter_how_an_answer_is_split(
    made: tuple[bytes, int, bytes], cuts: list[int]
) -> None:
    """TCP keeps no boundaries."""
    data, status, expected = made
    answer = fed(*cut_at(data, cuts))

    assert (answer.is_over, answer.may_reuse, answer.error) == (True, True, None)
    assert (answer.status, await body(answer)) == (status, expected)


@settings(max_examples=300)
@given(
    made=answers(),
    at=st.integers(0, 10_000),
    junk=st.binary(min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
)
async def test_bytes_that_are_wrong_do_no_more_than_break_an_answer(
    made: tuple[bytes, int, bytes], at: int, junk: bytes, cuts: list[int]
) -> None:
    """No other exception, no answer without an end, and the same whatever the splits."""
    data = made[0]
    at %= len(data)
    hostile = data[:at] + junk + data[at + len(junk) :]
    ends = []
    for parts in ([hostile], cut_at(hostile, cuts)):
        answer = fed(*parts)
        answer.end_of_input()
        assert answer.is_over
        ends.append((answer.error is None, answer.error is None and await body(answer)))

    assert ends[0] == ends[1]
