"""Forms on fakes: what backends get, what callers are told, and what is left behind."""

import asyncio
import time

import pytest

from meter.errors import TooLarge, UpstreamBroken
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import Outcome
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeRequestBody,
    FakeUpstream,
    Part,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    BOUNDARY,
    TRANSCRIPTION_PATH,
    V1_TRANSCRIPTION_PATH,
    Door,
    backend,
    bearer,
    door,
    error_of,
    form,
    form_headers,
)

DONE = (
    b'{"text":"hi","usage":{"type":"tokens","input_tokens":3,"output_tokens":1,"total_tokens":4}}'
)
FILE = bytes(range(256)) * 8
MODEL_FIRST = form(("model", b"gpt"), ("file", FILE), ("language", b"en"))
MODEL_LAST = form(("file", FILE), ("language", b"en"), ("model", b"gpt"))
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
STALLED = TooLarge("The request body was not sent within 60 seconds.", status=408)
LEFT = TooLarge("The request body was not sent to its end.", status=400)


def served() -> FakeAnswer:
    return json_answer(200, DONE)


def renaming(*answers: FakeAnswer) -> Door:
    """One backend that has its own name for the deployment."""
    return Door(FakeUpstream({"a": list(answers)}), [backend(own="whisper-eu")])


def two(a: FakeAnswer, b: FakeAnswer) -> Door:
    backends = [backend("a", own="whisper-eu"), backend("b", priority=2)]
    return Door(FakeUpstream({"a": [a], "b": [b]}), backends)


async def send(
    made: Door,
    *parts: Part,
    path: str = V1_TRANSCRIPTION_PATH,
    kind: str = MULTIPART,
    length: int | None = None,
) -> Answer | StreamingAnswer:
    query = "" if "/v1/" in path else "api-version=2024-10-21"
    return await made.call(
        FakeRequestBody(parts), path=path, query=query, headers=form_headers(length, kind=kind)
    )


@pytest.mark.parametrize(
    "body", [MODEL_FIRST, b"no form at all", form(("model", b"other")) + form(("model", b"x"))]
)
async def test_a_classic_form_is_passed_on_untouched(body: bytes) -> None:
    """Its path names the deployment, so nobody needs to look inside."""
    made = renaming(served())

    answer = await send(made, body[:9], body[9:], path=TRANSCRIPTION_PATH, length=len(body))

    assert answer.status == 200
    assert made.upstream.bodies == [body]
    assert "/deployments/whisper-eu/audio/transcriptions?" in made.upstream.requests[0].url
    assert dict(made.upstream.requests[0].headers)["content-length"] == str(len(body))
    assert dict(made.upstream.requests[0].headers)["content-type"] == MULTIPART


@pytest.mark.parametrize("body", [MODEL_FIRST, MODEL_LAST], ids=["first", "last"])
async def test_a_v1_form_names_its_deployment_wherever_its_model_stands(body: bytes) -> None:
    """The backend gets its own name for it and all else as it was sent; the event the public one."""
    made = renaming(served())

    answer = await send(made, body)

    assert answer.status == 200
    assert made.upstream.bodies == [body.replace(b"\r\n\r\ngpt\r\n", b"\r\n\r\nwhisper-eu\r\n")]
    event = made.sink.events[0]
    assert (event.deployment, event.usage.total_tokens) == ("gpt", 4)


async def test_a_form_whose_name_need_not_change_is_sent_as_it_came() -> None:
    """Byte for byte."""
    made = door(served())

    await send(made, MODEL_LAST, length=len(MODEL_LAST))

    assert made.upstream.bodies == [MODEL_LAST]
    assert dict(made.upstream.requests[0].headers)["content-length"] == str(len(MODEL_LAST))


@pytest.mark.parametrize(
    ("length", "told"), [(len(MODEL_LAST), str(len(MODEL_LAST) + 7)), (None, None)]
)
async def test_the_length_follows_the_name(length: int | None, told: str | None) -> None:
    """Where the caller told its length; a form without one is sent in chunks."""
    made = renaming(served())

    await send(made, MODEL_LAST, length=length)

    headers = dict(made.upstream.requests[0].headers)
    assert headers.get("content-length") == told
    assert told is None or len(made.upstream.bodies[0]) == int(told)


async def test_a_backend_is_asked_as_soon_as_the_model_is_known() -> None:
    """The rest of the form is sent on while it arrives."""
    go_on = asyncio.Event()
    made = renaming(served())
    made.upstream.parts_read["a"] = 2
    at = MODEL_FIRST.index(FILE)

    answer = await send(made, MODEL_FIRST[:at], go_on, MODEL_FIRST[at:])

    assert answer.status == 200
    assert made.upstream.bodies[0].endswith(b"\r\n\r\nwhisper-eu")


@pytest.mark.parametrize("path", [TRANSCRIPTION_PATH, V1_TRANSCRIPTION_PATH])
async def test_the_next_backend_gets_the_same_form_from_its_beginning(path: str) -> None:
    """With its own name for the model, whether or not the first one read all of it."""
    for most in (1, 2, None):
        made = two(json_answer(500, b"{}"), served())
        if most is not None:
            made.upstream.parts_read["a"] = most
        halves = MODEL_LAST[:700], MODEL_LAST[700:]

        answer = await send(made, *halves, path=path)

        assert (answer.status, made.upstream.order) == (200, ["a", "b"])
        assert made.upstream.bodies[1] == MODEL_LAST
        assert made.is_idle


async def test_a_backend_that_answers_early_is_believed() -> None:
    """The caller gets its answer while it still sends; what it sends then goes nowhere."""
    refusal = json_answer(413, b'{"error":{"code":"413"}}')
    made = renaming(refusal)
    made.upstream.parts_read["a"] = 1
    body = FakeRequestBody([MODEL_FIRST[:900], asyncio.Event(), MODEL_FIRST[900:]])

    answer = await made.call(body, path=V1_TRANSCRIPTION_PATH, headers=form_headers())

    assert (answer.status, made.upstream.whole) == (413, [])
    assert made.is_idle


HEARD = b'data: {"type":"transcript.text.delta","delta":"x"}\n\n'
ALL_HEARD = b'data: {"type":"transcript.text.done","text":"x"}\n\n'


async def test_a_stream_that_begins_early_does_not_end_the_form() -> None:
    """Half a form must not look like a whole one: it is kept until the stream has ended."""
    go_on = asyncio.Event()
    made = door(stream_answer(HEARD, go_on, ALL_HEARD))
    made.upstream.parts_read["a"] = 1
    answer = await send(made, MODEL_LAST[:100], MODEL_LAST[100:], path=TRANSCRIPTION_PATH)
    assert isinstance(answer, StreamingAnswer)
    body = made.upstream.requests[0].body
    assert callable(body)

    sent = b"".join([part async for part in body()])
    go_on.set()
    await answer.relay.run(FakeCaller())

    assert sent == MODEL_LAST
    assert made.is_idle


async def test_who_still_sends_a_form_after_the_call_is_broken_off() -> None:
    """An end there would make half a form look like a whole one."""
    made = door(served())
    made.upstream.parts_read["a"] = 1
    await send(made, MODEL_LAST[:100], MODEL_LAST[100:], path=TRANSCRIPTION_PATH)
    body = made.upstream.requests[0].body
    assert callable(body)

    with pytest.raises(Exception, match="ended before its form was sent"):
        await anext(body())


SECOND_MODEL = form(("model", b"gpt"), ("file", FILE), ("model", b"gpt-expensive"))


@pytest.mark.parametrize("length", [None, len(SECOND_MODEL)])
@pytest.mark.parametrize("other", [b"model", b"MODEL", b"Model"])
async def test_a_second_model_is_refused_and_no_backend_gets_the_forms_end(
    other: bytes, length: int | None
) -> None:
    """What is metered under one name must not be served under another; some servers ignore case."""
    made = renaming(served())
    before, after = SECOND_MODEL.split(FILE)
    after = after.replace(b'name="model"', b'name="' + other + b'"')

    answer = await send(made, before + FILE, after, length=length)

    assert (answer.status, error_of(answer)["message"]) == (
        400,
        "The form names `model` more than once.",
    )
    assert made.upstream.whole == []
    assert b"gpt-expensive" not in made.upstream.bodies[0]
    assert made.is_idle


async def test_two_models_in_the_first_bytes_reach_no_backend() -> None:
    """The same, found before anybody was asked: no event."""
    made = renaming(served())

    answer = await send(made, SECOND_MODEL)

    assert (answer.status, made.upstream.requests, made.sink.events) == (400, [], [])
    assert made.is_idle


DISGUISES = {
    "another line end": b"\n--%b\nContent-Disposition: form-data; name=%b\n\nx\n--%b--\n",
    "carriage returns": b"\r--%b\rContent-Disposition: form-data; name=%b\r\rx\r--%b--\r",
    "an end that is none": b"\r\n--%b--x\r\n--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\nx",
    "an epilogue": b"\r\n--%b--\r\n--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\nx",
    "an odd end of line": b"\r\n--%b\n\r\nContent-Disposition: form-data; name=%b\r\n\r\nx\r\n--%b",
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=list(DISGUISES))
async def test_a_part_that_only_other_parsers_see_is_refused(disguise: bytes) -> None:
    """A second model behind what some take for a delimiter; the backend never gets it."""
    made = renaming(served())
    names = [
        b'"model"' if before.endswith(b"name=") else BOUNDARY.encode()
        for before in disguise.split(b"%b")[:-1]
    ]
    hidden = disguise % tuple(names)
    opening = form(("model", b"gpt"), ("file", FILE)).removesuffix(
        f"\r\n--{BOUNDARY}--\r\n".encode()
    )

    answer = await send(made, opening, hidden, f"\r\n--{BOUNDARY}--\r\n".encode())

    assert answer.status == 400
    assert made.upstream.whole == []
    assert all(hidden not in body for body in made.upstream.bodies)


def headed(*lines: str) -> bytes:
    """A form whose first part has these header lines and whose second names the model."""
    head = "\r\n".join((f"--{BOUNDARY}", *lines, "", "x", ""))
    return head.encode() + form(("model", b"gpt"))


@pytest.mark.parametrize(
    "body",
    [
        headed("Content-Disposition: form-data; name*=utf-8''model"),
        headed("Content-Disposition: form-data; name*0=mod; name*1=el"),
        headed('Content-Disposition: form-data; name="a"; name="model"'),
        headed('Content-Disposition: form-data; name="a"; NAME="model"'),
        headed(
            'Content-Disposition: form-data; name="a"', 'Content-Disposition: form-data; name="b"'
        ),
        headed('Content-Disposition: form-data; name="mod\\el"'),
        headed("Content-Disposition: form-data; name='model'"),
        headed('Content-Disposition: form-data; name="%6dodel"'),
        headed('Content-Disposition: form-data; name="a'),
        headed('Content-Disposition: form-data; name="a; name="model"'),
        headed("Content-Disposition: form-data"),
        headed('Content-Disposition: form-data; name=""'),
        headed('X-A: b\nContent-Disposition: form-data; name="model"'),
        headed('Content-Disposition: form-data; name="a"\n; name="model"'),
        headed('Content-Disposition: form-data; name="mod\x00el"'),
        headed("", 'Content-Disposition: form-data; name="model"'),
        headed("", ""),
        headed("X-A: b"),
        headed("Content-Type: text/plain", "", 'Content-Disposition: form-data; name="model"'),
        headed('Content-Disposition: form-data; x="\\"; name="model[]"; y="'),
        headed('Content-Disposition: form-data; x="\\"; name=model; y="; name=a; z="\\""'),
        headed('Content-Disposition: form-data; name="model[]"; x="a'),
        headed('Content-Disposition: form-data; name ="a"'),
        headed('Content-Disposition: form-data; name= "a"'),
        headed('Content-Disposition: form-data; name="a" x'),
        headed('Content-Disposition: form-data; name="a"; filename="x"; filename="y"'),
        headed('Content-Disposition: form-data, name="a"'),
        headed('Content-Disposition: attachment; name="a"'),
        headed('Content-Disposition: ; name="a"'),
        headed('Content-Disposition: form-data; name="a"', "Content-Transfer-Encoding: base64"),
        form(("model", b"gpt")).removesuffix(b"\r\n") + b"x",
        form(("model", b"gpt")) + b"an epilogue",
    ],
    ids=lambda body: repr(body[16:75]),
)
async def test_a_part_whose_name_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    """RFC 7578 section 4.2 wants a plain one."""
    made = renaming(served())

    answer = await send(made, body)

    assert (answer.status, made.upstream.requests, made.is_idle) == (400, [], True)


async def test_a_name_that_is_never_closed_takes_no_time() -> None:
    """Thousands of parts of escaped quotes: a search that goes back would hold up every call."""
    part = headed('Content-Disposition: form-data; name="a"; filename="' + '\\"' * 2_000 + '"')
    made = door(served())
    opening = part[: part.index(BOUNDARY.encode(), 20) - 4]
    started = time.process_time()

    good = await send(made, opening * 200 + b"\r\n" + form(("model", b"gpt")))
    bad = await send(made, opening.replace(b'\\""', b'\\"') + b"\r\n" + form(("model", b"gpt")))

    assert (good.status, bad.status) == (200, 400)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="file"; filename="my name*=\\"a\\"; name=b.wav"',
        'form-data; filename="a;b.wav"; name="file"',
        "form-data; name=file; filename*=utf-8''%e2%82%ac.wav",
        'form-data; name="timestamp_granularities[]"',
        'form-data; name="file"; filename="C:\\dir\\a.wav"',
        'form-data; name="file"; filename="\u20ac.wav"',
    ],
)
async def test_any_file_name_is_passed_on(disposition: str) -> None:
    """What stands in quotes is no parameter."""
    body = headed(f"Content-Disposition: {disposition}")
    made = door(served())

    answer = await send(made, body)

    assert (answer.status, made.upstream.bodies) == (200, [body])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", MULTIPART),
        (b"nonsense", MULTIPART),
        (b"--wrong\r\n", MULTIPART),
        (MODEL_FIRST[:40], MULTIPART),
        (form(("file", FILE)), MULTIPART),
        (form(), MULTIPART),
        (form(("model", b"g" * 257)), MULTIPART),
        (form(("model", b"g" * 300_000)), MULTIPART),
        (headed("a: " + "b" * 5_000), MULTIPART),
        (headed(*["a: b"] * 20), MULTIPART),
        (headed(" folded"), MULTIPART),
        (MODEL_FIRST, "multipart/form-data"),
        (MODEL_FIRST, "multipart/form-data; boundary="),
        (MODEL_FIRST, f'multipart/form-data; boundary="{BOUNDARY} "'),
        (MODEL_FIRST, f"multipart/form-data; boundary*=utf-8''{BOUNDARY}"),
        (MODEL_FIRST, f"multipart/form-data; boundary={BOUNDARY}; boundary=other"),
        (MODEL_FIRST, f"multipart/form-data; boundary=other; Boundary={BOUNDARY}"),
        (MODEL_FIRST, f"multipart/form-data; boundary={BOUNDARY}, application/json"),
        (MODEL_FIRST, "multipart/form-data; boundary=" + "b" * 71),
        (MODEL_FIRST, "multipart/form-data; boundary=" + "b" * 1_000),
        (MODEL_FIRST, "multipart/form-data; boundary=\u00e9"),
    ],
    ids=lambda value: repr(value[-30:]),
)
async def test_a_form_that_is_none_is_refused_before_any_backend(body: bytes, kind: str) -> None:
    """400 that says what is wrong, no event, nothing kept."""
    made = renaming(served())

    answer = await send(made, body, kind=kind)

    assert (answer.status, error_of(answer)["type"]) == (400, "invalid_request_error")
    assert "form" in str(error_of(answer)["message"])
    assert (made.upstream.requests, made.sink.events, made.is_idle) == ([], [], True)


async def test_a_form_with_two_content_types_is_refused() -> None:
    """Which boundary would hold is a guess."""
    made = renaming(served())
    headers = (*form_headers(), ("content-type", "multipart/form-data; boundary=b"))

    answer = await made.call(MODEL_FIRST, path=V1_TRANSCRIPTION_PATH, headers=headers)

    assert (answer.status, made.upstream.requests) == (400, [])


@pytest.mark.parametrize(
    "model", [b"", b"other", b"../gpt", b"gpt\r\n", b"\r\ngpt", b"\xff", b"g p"]
)
async def test_a_model_that_is_not_served_is_not_found(model: bytes) -> None:
    """404 before any backend, and what was spooled is gone."""
    made = renaming(served())

    answer = await send(made, form(("model", model), ("file", FILE)))

    assert (answer.status, error_of(answer)["code"]) == (404, "DeploymentNotFound")
    assert (made.upstream.requests, made.is_idle) == ([], True)


@pytest.mark.parametrize("error", [STALLED, LEFT], ids=["408", "400"])
@pytest.mark.parametrize("path", [TRANSCRIPTION_PATH, V1_TRANSCRIPTION_PATH])
async def test_a_caller_that_stops_sending_is_no_backends_fault(path: str, error: TooLarge) -> None:
    """It is told so, its call is counted under the backend that was asked, and nobody is benched."""
    made = two(served(), served())

    answer = await send(made, MODEL_FIRST[:900], error, path=path)

    assert (answer.status, error_of(answer)["type"]) == (error.status, "invalid_request_error")
    assert (made.upstream.order, made.upstream.whole) == (["a"], [])
    event = made.sink.events[0]
    assert (event.outcome, event.status, event.backend) == (Outcome.FAILED, error.status, "a")
    assert made.may_call("a")
    assert made.is_idle


async def test_a_caller_that_stops_before_its_model_reaches_no_backend() -> None:
    """Nothing was asked, so nothing is counted."""
    made = two(served(), served())

    answer = await send(made, MODEL_LAST[:900], STALLED)

    assert (answer.status, made.upstream.requests, made.sink.events) == (408, [], [])
    assert made.is_idle


async def test_a_broken_form_is_not_sent_to_a_second_backend_as_a_whole_one() -> None:
    """One backend throttles at once; then the caller breaks off: the next gets no end either."""
    made = two(json_answer(429, b"{}"), served())
    made.upstream.parts_read["a"] = 1

    answer = await send(made, MODEL_FIRST[:900], LEFT)

    assert (answer.status, made.upstream.order, made.upstream.whole) == (400, ["a", "b"], [])
    assert made.may_call("b")


async def test_a_backends_own_fault_is_still_its_own() -> None:
    """A form that came whole: the backend that breaks is left, and the next one serves."""
    broken = FakeAnswer(200, (("content-type", "application/json"),), [UpstreamBroken("a")])
    made = two(broken, served())

    answer = await send(made, MODEL_FIRST)

    assert (answer.status, made.upstream.order) == (200, ["a", "b"])
    assert not made.may_call("a")


@pytest.mark.parametrize("path", [TRANSCRIPTION_PATH, V1_TRANSCRIPTION_PATH])
async def test_a_form_that_is_too_large_from_the_start_reaches_no_backend(path: str) -> None:
    """Its length says so before a byte was read."""
    made = renaming(served())

    answer = await send(made, TooLarge("The request body is larger than 9 bytes."), path=path)

    assert (answer.status, made.upstream.requests, made.is_idle) == (413, [], True)


async def test_a_form_that_grows_too_large_is_broken_off() -> None:
    """413 while it streams; the backend gets no end."""
    made = renaming(served())

    answer = await send(made, MODEL_FIRST[:900], TooLarge("The request body is larger."))

    assert (answer.status, made.upstream.whole, made.is_idle) == (413, [], True)


async def test_an_instance_without_room_says_so() -> None:
    """503 with a wait; no backend is benched for it."""
    made = two(served(), served())
    made.spool_room = 1_000

    answer = await send(made, MODEL_FIRST[:900], MODEL_FIRST[900:])

    assert (answer.status, dict(answer.headers)["retry-after"]) == (503, "1")
    assert made.may_call("a")
    assert made.is_idle


@pytest.mark.parametrize("at", ["the model", "the file"])
async def test_a_cancelled_form_leaves_nothing_behind(at: str) -> None:
    """Its spool is closed and its place given back, wherever it was."""
    made = renaming(served())
    rest = asyncio.Event()
    body = FakeRequestBody([MODEL_FIRST[: 20 if at == "the model" else 900], rest, LEFT])
    call = asyncio.create_task(made.call(body, path=V1_TRANSCRIPTION_PATH, headers=form_headers()))
    await body.is_waiting.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    rest.set()
    await made.front_door.detached.finish(5, cut_seconds=0)

    assert made.is_idle
    assert len(made.sink.events) == (0 if at == "the model" else 1)


async def test_a_json_body_on_a_form_operation_is_read_as_json() -> None:
    """Image edits take one as well; its deployment is found in its model."""
    made = renaming(served())

    await made.call(b'{"model": "gpt"}', path="/openai/v1/images/edits", query="")

    assert made.upstream.bodies == [b'{"model": "whisper-eu"}']
    assert made.spools == []


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/mixed; boundary=b"])
async def test_what_says_to_be_no_form_must_be_json(kind: str | None) -> None:
    """A form under another name is refused, not guessed."""
    made = renaming(served())
    headers = (bearer()[0],) if kind is None else form_headers(kind=kind)

    answer = await made.call(MODEL_FIRST, path=V1_TRANSCRIPTION_PATH, headers=headers)

    assert (answer.status, made.upstream.requests) == (400, [])


async def test_a_form_on_an_operation_that_takes_none_is_refused() -> None:
    """It is read as the JSON that it should be."""
    made = renaming(served())

    answer = await send(made, MODEL_FIRST, path="/openai/v1/chat/completions")

    assert (answer.status, made.spools) == (400, [])


@pytest.mark.parametrize(
    "kind",
    ["Multipart/Form-Data; Boundary=" + BOUNDARY, f'multipart/form-data;boundary="{BOUNDARY}"'],
)
async def test_a_form_is_known_however_its_type_is_written(kind: str) -> None:
    """RFC 9110 section 8.3.1: names without regard to case, values quoted or not."""
    made = renaming(served())

    assert (await send(made, MODEL_LAST, kind=kind)).status == 200


TRANSCRIPT = (
    b'data: {"type":"transcript.text.delta","delta":"hi"}\n\n'
    b'data: {"type":"transcript.text.done","text":"hi","usage":{"type":"tokens","input_tokens":3,'
    b'"output_tokens":1,"total_tokens":4}}\n\n'
)


@pytest.mark.parametrize("path", [TRANSCRIPTION_PATH, V1_TRANSCRIPTION_PATH])
@pytest.mark.parametrize("size", [1, 50, 100_000])
@pytest.mark.parametrize("after", [[], [("language", b"en")]], ids=["last", "within"])
async def test_a_stream_that_a_form_asks_for_is_one_without_a_type(
    path: str, size: int, after: list[tuple[str, bytes]]
) -> None:
    """Wherever its `stream` part stands, and however the form arrives."""
    body = form(("model", b"gpt"), ("file", FILE), ("stream", b"true"), *after)
    made, caller = door(FakeAnswer(200, (), [TRANSCRIPT])), FakeCaller()

    answer = await send(
        made, *(body[at : at + size] for at in range(0, len(body), size)), path=path
    )
    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(caller)

    event = made.sink.events[0]
    assert (event.streaming, event.usage.total_tokens, caller.received) == (True, 4, TRANSCRIPT)


@pytest.mark.parametrize(
    "fields",
    [
        [("file", FILE)],
        [("stream", b"false"), ("file", FILE)],
        [("streams", b"true"), ("file", b"name=stream true")],
    ],
)
async def test_a_transcript_is_none_where_the_form_asks_for_none(
    fields: list[tuple[str, bytes]],
) -> None:
    """It is the caller's own words, which must not choose what it is charged with."""
    made = door(FakeAnswer(200, (), [TRANSCRIPT]))

    answer = await send(made, form(*fields), path=TRANSCRIPTION_PATH)

    assert isinstance(answer, Answer)
    assert (answer.body, made.sink.events[0].usage.total_tokens) == (TRANSCRIPT, 0)
