"""Frames that are only looked at say the same as frames that are read: bytes, usage, tier, estimate, end."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meter.gateway.answer.follow import StreamReader
from meter.gateway.stream_failure import StreamFailure

WORDS = st.sampled_from(
    [
        *(
            "a",
            "é",
            "\n",
            '"',
            "\\",
            "\r\n",
            "",
            "error",
            'rror"',
            "data:[DONE]",
            "response.completed",
        ),
        *('"usage":{"total_tokens":9}', '"finish_reason":"stop"', '"index":1', '"model":"evil"'),
        *('"service_tier":"evil"', '"type":"response.failed"', '{"error":{"code":"429"}}', ".done"),
    ]
)
USAGES = st.sampled_from(
    [None, {}, {"total_tokens": 0}, {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}]
)
ERRORS = st.sampled_from([None, {}, "busy", {"code": "429", "message": "m"}])
MODELS = st.sampled_from(["", "gpt-4o", "gpt-5"])
TIERS = st.sampled_from([None, "default", "priority"])
RESPONSE = {"id": "resp_1", "object": "response", "model": "o3", "background": False}


def changed(
    document: Mapping[str, Any], **members: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """The document with one or two of its members changed, before or behind the others; or as it is."""
    one = st.sampled_from(list(members)).flatmap(
        lambda name: members[name].map(lambda value: {name: value})
    )
    either = st.builds(lambda a, b: {**a, **b}, one, one)
    made = st.one_of(
        st.just(document),
        either.map(lambda change: {**document, **change}),
        either.map(lambda change: {**change, **document, **change}),
    )
    return made.map(dict)


CHOICES = changed(
    {"index": 0, "delta": {"content": "a"}, "finish_reason": None},
    index=st.sampled_from([1, 10]),
    delta=changed(
        {"content": "a"},
        content=WORDS,
        role=st.just("assistant"),
        refusal=WORDS,
        tool_calls=st.just([{"index": 0, "function": {"name": "f", "arguments": "x"}}]),
    ),
    text=WORDS,
    finish_reason=st.just("stop"),
    error=ERRORS,
)
CHUNKS = changed(
    {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], "model": "m"},
    choices=st.one_of(st.lists(CHOICES, max_size=2), st.none()),
    model=MODELS,
    usage=USAGES,
    service_tier=TIERS,
    error=ERRORS,
    obfuscation=st.sampled_from(["", "aB3", "usage", "error"]),
    type=st.sampled_from(["chunk", "response.output_text.delta"]),
)
KINDS = st.sampled_from(
    [
        *("response.output_text.delta", "response.function_call_arguments.delta"),
        *("response.audio.delta", "response.output_text.done", "response.completed"),
        *("response.error.delta", "response.failed", "error", "image_generation.completed"),
    ]
)
EVENTS = changed(
    {"type": "response.output_text.delta", "sequence_number": 5, "delta": "a"},
    sequence_number=st.integers(0, 12),
    type=KINDS,
    delta=WORDS,
    text=WORDS,
    usage=USAGES,
    service_tier=TIERS,
    background=st.booleans(),
    model=MODELS,
    error=ERRORS,
    response=changed(RESPONSE, usage=USAGES, background=st.just(True), service_tier=TIERS),
)


@dataclass(frozen=True)
class Frame:
    """A frame before it is written: with `name` it has an `event:` line."""

    document: Mapping[str, Any] | str
    name: str = ""
    end: str = "\n\n"
    is_compact: bool = True
    is_split: bool = False  # over two lines

    def written(self, space: str) -> bytes:
        """Its bytes, with this behind `data:`. Only a frame with one space is looked at alone."""
        separators = (",", ":") if self.is_compact else (", ", ": ")
        line = self.end[: len(self.end) // 2]
        name = f"event: {self.name}{line}" if self.name else ""
        text = (
            self.document
            if isinstance(self.document, str)
            else json.dumps(self.document, separators=separators, ensure_ascii=False)
        )
        if self.is_split:
            head, _, tail = text.partition(",")
            text = f"{head},{line}data:{space}{tail.lstrip()}"
        return f"{name}data:{space}{text}{self.end}".encode()


FORMS = {
    "end": st.sampled_from(["\n\n"] * 8 + ["\r\n\r\n", "\r\r"]),
    "is_compact": st.sampled_from([True] * 7 + [False]),
    "is_split": st.sampled_from([False] * 7 + [True]),
}
OF_CHAT = st.builds(Frame, st.one_of(CHUNKS, CHUNKS, CHUNKS, st.just("[DONE]")), **FORMS)
CREATED = Frame({"type": "response.created", "response": RESPONSE})


@st.composite
def events(draw: st.DrawFn) -> Frame:
    """An event of the Responses API, whose two names may differ."""
    document = draw(EVENTS)
    name = draw(st.sampled_from(["", document["type"], document["type"], draw(KINDS)]))
    forms: dict[str, Any] = {form: draw(values) for form, values in FORMS.items()}
    return Frame(document, name, **forms)


FAILURES: Mapping[str, Callable[[], StreamFailure]] = {
    "chat": lambda: StreamFailure(has_choices=True),
    "response": lambda: StreamFailure(response_id="resp_0"),
    "media": lambda: StreamFailure(is_media=True),
    "other": StreamFailure,
}


def told(reader: StreamReader, chunks: Sequence[bytes], *, is_cut: bool) -> Sequence[object]:
    """All that a stream's reader says, once it has read these chunks."""
    relayed = b"".join([reader.feed(chunk) for chunk in chunks])
    states = (reader.is_complete, reader.is_over, reader.is_cut_short, reader.takes_comments)
    if is_cut:
        reader.drop_rest()
        relayed += reader.cut_notice()
    else:
        relayed += reader.take_rest()
    reading = reader.reading
    return (
        relayed.replace(b"data: ", b"data:"),
        *states,
        (reader.error, reader.is_broken, reader.is_cut_short),
        (reading, reading.usage, reading.service_tier),
        (reader.seen.frames, reader.seen.sounds, reader.seen.text()),
    )


def chunks_of(frames: Sequence[bytes], cuts: Sequence[int] | None) -> list[bytes]:
    """A chunk for each frame; or the stream cut at these places."""
    if cuts is None:
        return list(frames)
    stream = b"".join(frames)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[a:b] for a, b in pairwise(places)]


@given(
    st.one_of(
        st.tuples(st.sampled_from(["chat"] * 4 + ["other"]), st.lists(OF_CHAT, max_size=5)),
        st.tuples(
            st.sampled_from(["response"] * 4 + ["media"]),
            st.lists(events(), max_size=5).map(lambda found: [CREATED, *found]),
        ),
    ),
    st.one_of(st.none(), st.none(), st.lists(st.integers(0, 900), max_size=6)),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=400)
def test_a_frame_that_is_not_read_has_nothing_to_say(
    sent: tuple[str, list[Frame]], cuts: list[int] | None, hides: bool, is_cut: bool
) -> None:
    """A stream is told the same whether its frames have a space behind `data:` or none; it decides
    which of them are read, however they are cut.
    """
    api, frames = sent
    looked_at, read = (
        told(
            StreamReader(hides_usage=hides, failure=FAILURES[api]()),
            chunks_of([frame.written(space) for frame in frames], cuts),
            is_cut=is_cut,
        )
        for space in (" ", "")
    )

    assert looked_at == read
