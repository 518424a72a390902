"""Random answers, faults in them and splits: an upstream client beside one on aiohttp."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from meter.adapters.upstream.client import HttpUpstream
from tests.support.aiohttp_upstream import AiohttpUpstream
from tests.support.wire import End, Outcome, Script, outcome, playing, post

TOKENS = st.text("abcxyz-", min_size=1, max_size=8)
VALUES = st.text("abc ,;=\u00e9\t", max_size=12)
RIGHT = [b"%x", b"%X", b"0%x", b"%x;a=b", b"%x "]
WRONG = [b"-%x", b"0x%x", b"%x\n", b"g%x", b"f%xffffffffffffffff"]


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bool]:
    """An answer with headers and a body, in chunks or of a length; and whether its framing is right."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 503, 599]))
    headers = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=4))
    lines = "".join(f"x-{name}: {value}\r\n" for name, value in headers).encode()
    head = b"HTTP/1.1 %d X\r\n%b" % (status, lines)
    is_right = draw(st.integers(0, 4)) > 0
    if draw(st.booleans()):
        forms = [draw(st.sampled_from(RIGHT)) for _ in parts]
        if parts and not is_right:
            forms[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(WRONG))
        chunks = [
            b"%b\r\n%b\r\n" % (form % len(part), part)
            for form, part in zip(forms, parts, strict=True)
        ]
        body = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"
        return head + body, is_right or not parts
    body = b"".join(parts)
    length = len(body) + (not is_right)
    return head + b"Content-Length: %d\r\n\r\n%b" % (length, body), is_right


async def played(client: type[HttpUpstream] | type[AiohttpUpstream], script: Script) -> Outcome:
    upstream = client(connect_timeout_seconds=60, idle_timeout_seconds=60)
    async with playing(script) as backend:
        found = await outcome(upstream, post(backend.url), seconds=60)
        await upstream.close()
    return found


@settings(max_examples=120)
@given(
    answer=answers(),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    lost=st.integers(-8, 3),
    end=st.sampled_from([End.CLOSE, End.SHUT]),
)
async def test_an_answer_ends_cleanly_if_and_only_if_it_is_whole(
    answer: tuple[bytes, bool], cuts: list[int], lost: int, end: End
) -> None:
    """And then says the same to both clients. Of a broken one, aiohttp may wait for more until it is idle."""
    data, is_right = answer
    sent = data[: len(data) - max(0, lost)]
    at = sorted({0, *(cut % (len(sent) + 1) for cut in cuts), len(sent)})
    script = Script([sent[a:b] for a, b in pairwise(at)], end)
    found = await played(HttpUpstream, script)

    assert (found.error is None) == (is_right and lost <= 0)
    assert found.error in {None, "UpstreamBroken"}
    if found.error is None:
        assert found == await played(AiohttpUpstream, script)
