"""Wherever a stream is cut, and however its bytes are split, no caller takes a part of it for the whole."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.http import Answer
from tests.fakes.gateway import FakeCaller, Part, stream_answer
from tests.support.gateway import door

BODY = b'{"model":"gpt","stream":true,"input":"x","messages":[]}'
RESPONSES, CHAT = "/openai/v1/responses", "/openai/v1/chat/completions"
IMAGES, HEARD = "/openai/v1/images/generations", "/openai/v1/audio/transcriptions"
ENDS = {
    RESPONSES: ("response.completed", "response.incomplete", "response.failed"),
    IMAGES: ("image_generation.completed",),
    HEARD: ("transcript.text.done",),
}
BLANK = re.compile(rb"(?:\r\n|\n|\r){2}")
LINE = re.compile(rb"\r\n|\n|\r")
FIELD = re.compile(rb"data:|event:")


@dataclass(frozen=True)
class Sent:
    """A backend's stream: its API, its bytes, and where they are split."""

    path: str
    stream: bytes
    cuts: Sequence[int]
    is_broken: bool

    def parts(self) -> list[Part]:
        places = sorted({0, len(self.stream), *(c for c in self.cuts if c < len(self.stream))})
        chunks: list[Part] = [self.stream[a:b] for a, b in pairwise(places)]
        return [*chunks, UpstreamBroken("a")] if self.is_broken else chunks


def frame(kind: str, document: Mapping[str, Any], *, is_named: bool, end: bytes) -> bytes:
    line = LINE.match(end)
    assert line is not None
    name = b"event: " + kind.encode() + line[0] if is_named else b""
    return name + b"data: " + json.dumps(document).encode() + end


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[tuple[str, Any]]]:
    """A whole stream of one API, as kinds and documents."""
    path = draw(st.sampled_from([RESPONSES, CHAT, IMAGES, HEARD]))
    texts = draw(
        st.lists(st.sampled_from(["a", "data: [DONE]", "\n\n", "é", "response.failed"]), max_size=3)
    )
    error = draw(st.sampled_from([None, None, {"error": {"code": "c", "message": "m"}}]))
    closing: list[tuple[str, Any]] = [("error", error)] if error else []
    if path == CHAT:
        chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
        stop = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return path, [("", c) for c in ({"choices": []}, *chunks, stop)] + closing
    if path == RESPONSES:
        deltas: list[tuple[str, Any]] = [
            ("response.output_text.delta", {"delta": text}) for text in texts
        ]
        made: tuple[str, Any] = ("response.created", {"response": {"id": "resp_1"}})
        ended: tuple[str, Any] = (
            draw(st.sampled_from(ENDS[RESPONSES])),
            {"response": {"id": "resp_1", "error": None}},
        )
        found = [made, *deltas, *closing, *([] if error else [ended])]
        numbered = [(k, {"type": k, "sequence_number": n, **d}) for n, (k, d) in enumerate(found)]
        return path, numbered
    begun = "image_generation.partial_image" if path == IMAGES else "transcript.text.delta"
    media: list[tuple[str, Any]] = [(begun, {"delta": text}) for text in texts]
    media += [] if error else [(ENDS[path][0], {})]
    return path, [*((k, {"type": k, **d}) for k, d in media), *closing]


@st.composite
def streams(draw: st.DrawFn) -> Sent:
    """A stream that is whole, or cut anywhere; ended or broken off."""
    path, found = draw(documents())
    end = draw(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]))
    is_named = path != CHAT and draw(st.booleans())
    stream = b"".join(frame(kind, each, is_named=is_named, end=end) for kind, each in found)
    if path == CHAT and draw(st.booleans()):
        stream += b"data: [DONE]" + end
    most = len(stream)
    size = draw(st.one_of(st.just(most), st.integers(0, most), st.integers(max(0, most - 4), most)))
    cuts = draw(st.lists(st.integers(1, 400), max_size=6))
    return Sent(path, stream[:size], cuts, is_broken=draw(st.booleans()))


def events(received: bytes) -> list[Any]:
    """What a client reads: the data of each event that has its blank line."""
    frames = BLANK.split(received)
    assert not frames[-1].strip(), frames[-1]
    found = []
    for each in frames[:-1]:
        data = [line[6:] for line in LINE.split(each) if line.startswith(b"data: ")]
        if data:
            found.append(data[0].decode() if data == [b"[DONE]"] else json.loads(b"\n".join(data)))
    return found


def is_at_its_end(path: str, read: Sequence[Any]) -> bool:
    """Whether the events say that nothing is missing."""
    if path == CHAT:
        reasons = [c.get("finish_reason") for e in read if e != "[DONE]" for c in e["choices"]]
        return "[DONE]" in read or any(reasons)
    return any(each["type"] in ENDS[path] for each in read)


async def relayed(sent: Sent) -> tuple[bytes, bool] | None:
    """What the caller got, and whether the connection was cut; None for an answer before the stream."""
    made = door(stream_answer(*sent.parts()))
    answer = await made.call(BODY, path=sent.path, query="")
    if isinstance(answer, Answer):
        assert answer.status >= 500
        return None
    caller = FakeCaller()
    try:
        await answer.relay.run(caller)
    except AnswerCut:
        return caller.received, True
    return caller.received, False


@settings(max_examples=150)
@given(streams())
def test_a_clean_end_is_the_end_and_any_other_says_so(sent: Sent) -> None:
    """What is read is a part of what was sent, and an error of its API behind it unless it is all."""
    found = asyncio.run(relayed(sent))
    if found is None:
        return
    received, is_cut = found
    read = events(received)

    if not is_cut:
        assert is_at_its_end(sent.path, read)
        # A part of a line that no client reads is not passed on.
        unread = sent.stream.removeprefix(received) if sent.stream.startswith(received) else b""
        assert not FIELD.match(unread)
        sent_to_read = sent.stream.removesuffix(unread)
        assert received.startswith(sent_to_read)
        assert not LINE.sub(b"", received[len(sent_to_read) :])
        return
    last = read[-1]
    own = [each for each in read if each != "[DONE]" and "error" in each]
    if sent.path == RESPONSES:
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["sequence_number"] == len(read) - 1
        assert last["response"]["error"]["code"] == ("c" if own else "upstream_cut")
        is_named = len(read) == 1 or sent.stream.startswith(b"event: ")
        assert received.endswith(final(sent.path, is_named=is_named, last=last))
    else:
        assert len(own) == 1
        assert b"event: response.failed" not in received
    passed = [received[:at].rstrip(b"\r\n") for at in places_before_the_last(received)]
    assert any(map(sent.stream.startswith, passed))  # the last event may have got its blank line


def final(path: str, *, is_named: bool, last: Mapping[str, Any]) -> bytes:
    """The event of the gateway's own that ends a response."""
    return frame("response.failed", last, is_named=is_named and path == RESPONSES, end=b"\n\n")


def places_before_the_last(received: bytes) -> list[int]:
    """Where what the backend sent may end: at the end, or before one event more."""
    starts = [match.start() for match in re.finditer(rb"event: response\.failed|data: ", received)]
    return [len(received), *starts[-2:]]
