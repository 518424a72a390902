"""What decides the rates of a call besides its counts: tier, context, model, place and tools."""

import json
from copy import replace

import pytest

from meter.errors import AnswerCut, UpstreamBroken, UpstreamTimeout
from meter.gateway.backend import Backend, Deployment
from meter.gateway.headers import IMAGE_DEPLOYMENT
from meter.gateway.http import StreamingAnswer
from meter.ports import Headers
from meter.usage import (
    NO_USAGE,
    Context,
    Outcome,
    Tier,
    TokenUsage,
    ToolUsage,
    UsageEvent,
    encode_event,
)
from tests.fakes.gateway import FakeAnswer, FakeCaller, FakeUpstream, json_answer, stream_answer
from tests.support.gateway import (
    CHAT_BODY,
    CHAT_PATH,
    DONE_FRAME,
    STREAM_BODY,
    V1_RESPONSES_PATH,
    Door,
    bearer,
)

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
SPILLED = ("x-ms-spillover-from-deployment", "gpt-ptu")
RESPOND = b'{"model":"gpt","input":"hello"}'
STREAM_RESPONSE = b'{"model":"gpt","input":"hello","stream":true}'


def own(tier: Tier = Tier.STANDARD, **changes: object) -> Backend:
    """A backend of the deployments `gpt` and `images`."""
    known = Backend(
        name="a",
        url="https://a.example",
        tier=tier,
        region="swedencentral",
        deployment_type="global",
        deployments={
            "gpt": Deployment("own-gpt", model="gpt-5.1"),
            "images": Deployment("own-images", model="gpt-image-1"),
        },
    )
    return replace(known, **changes)  # type: ignore[arg-type]  # checked by Backend


def made(*answers: FakeAnswer | Exception, backend: Backend | None = None) -> Door:
    return Door(FakeUpstream({"a": list(answers)}), [backend or own()])  # type: ignore[arg-type]  # errors only


async def event_of(
    door: Door, body: bytes = CHAT_BODY, *, path: str = CHAT_PATH, headers: Headers | None = None
) -> UsageEvent:
    answer = await door.call(body, path=path, headers=headers)
    if isinstance(answer, StreamingAnswer):
        await answer.relay.run(FakeCaller())
    assert len(door.sink.events) == 1
    return door.sink.events[0]


def chat(*headers: tuple[str, str], **members: object) -> FakeAnswer:
    document = {"id": "1", "model": "gpt-5.1-2026", "usage": USAGE, **members}
    return json_answer(200, json.dumps(document).encode(), *headers)


WORDS = [
    ("priority", Tier.PRIORITY, "priority"),
    ("PRIORITY", Tier.PRIORITY, "PRIORITY"),
    ("flex", Tier.FLEX, "flex"),
    ("Flex", Tier.FLEX, "Flex"),
    ("default", Tier.STANDARD, "default"),
    ("auto", Tier.STANDARD, "auto"),
    ("scale", Tier.STANDARD, "scale"),
    ("provisioned", Tier.STANDARD, "provisioned"),
    ("turbo", Tier.STANDARD, "turbo"),
    ("x" * 10_000, Tier.STANDARD, "x" * 128),
    ("pri\x00o\u202erity\n", Tier.PRIORITY, "priority"),
    ("\x00\x1f\u202e", Tier.STANDARD, None),
    ("", Tier.STANDARD, None),
    ("\ud800", Tier.STANDARD, None),
    (None, Tier.STANDARD, None),
    (7, Tier.STANDARD, None),
    (["priority"], Tier.STANDARD, None),
    ({"priority": 1}, Tier.STANDARD, None),
]


@pytest.mark.parametrize(("word", "tier", "kept"), WORDS, ids=lambda value: repr(value)[:20])
async def test_the_answers_word_decides_how_a_call_is_billed(
    word: object, tier: Tier, kept: str | None
) -> None:
    """Whatever was asked for: priority is downgraded without notice. No word makes an error."""
    event = await event_of(made(chat(service_tier=word)))

    assert (event.tier, event.service_tier) == (tier, kept)
    data = json.loads(encode_event(event))["data"]
    assert (data["tier"], data["service_tier"]) == (tier, kept)
    assert event.usage.total_tokens == 7


@pytest.mark.parametrize(
    ("own_tier", "headers", "tier"),
    [
        (Tier.PROVISIONED, [], Tier.PROVISIONED),
        (Tier.PROVISIONED, [SPILLED], Tier.STANDARD),
        (Tier.STANDARD, [SPILLED], Tier.STANDARD),
        (Tier.STANDARD, [], Tier.PRIORITY),
    ],
)
async def test_provisioned_capacity_has_no_tiers(
    own_tier: Tier, headers: list[tuple[str, str]], tier: Tier
) -> None:
    """It is paid by the hour; what Azure spills over from it is billed at the standard rate."""
    answer = chat(*headers, service_tier="priority")

    event = await event_of(made(answer, backend=own(own_tier)))

    assert (event.tier, event.service_tier) == (tier, "priority")


def frame(**members: object) -> bytes:
    return b"data: " + json.dumps({"model": "m", "choices": [], **members}).encode() + b"\n\n"


TEXT = {"choices": [{"delta": {"content": 'say "service_tier":"flex"'}}], "usage": None}


@pytest.mark.parametrize(
    ("frames", "tier"),
    [
        ([frame(**TEXT, service_tier="priority"), frame(**TEXT), frame(usage=USAGE)], "priority"),
        ([frame(**TEXT), frame(**TEXT, service_tier="priority"), frame(usage=USAGE)], "priority"),
        ([frame(**TEXT), frame(usage=USAGE, service_tier="priority")], "priority"),
        (
            [frame(**TEXT, service_tier="flex")] * 3 + [frame(usage=USAGE, service_tier="flex")],
            "flex",
        ),
        (
            [frame(**TEXT, service_tier="auto")] * 2
            + [frame(**TEXT, service_tier="priority")] * 2
            + [frame(usage=USAGE, service_tier=None)],
            "priority",
        ),
        ([frame(**TEXT, service_tier=None), frame(usage=USAGE, service_tier="default")], "default"),
        ([frame(**TEXT), frame(usage=USAGE)], None),
    ],
)
async def test_any_frame_of_a_stream_may_name_the_tier(
    frames: list[bytes], tier: str | None
) -> None:
    """Of several, the last. What the model writes is none."""
    event = await event_of(made(stream_answer(*frames, DONE_FRAME)), STREAM_BODY)

    assert (event.service_tier, event.usage.total_tokens) == (tier, 7)
    assert event.tier is {"priority": Tier.PRIORITY, "flex": Tier.FLEX}.get(
        tier or "", Tier.STANDARD
    )


async def test_a_response_stream_names_its_tier_in_its_response() -> None:
    """At its end it is known; the caller's own metadata are no tier."""

    def event(kind: str, **members: object) -> bytes:
        response = {"metadata": {"service_tier": "flex"}, **members}
        data = json.dumps({"type": f"response.{kind}", "response": response})
        return f"event: response.{kind}\ndata: {data}\n\n".encode()

    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    stream = stream_answer(
        event("created", service_tier="auto"),
        event("in_progress", service_tier="auto"),
        event("completed", service_tier="priority", usage=usage),
    )

    told = await event_of(made(stream), STREAM_RESPONSE, path=V1_RESPONSES_PATH)

    assert (told.tier, told.service_tier) == (Tier.PRIORITY, "priority")
    assert told.usage_raw == {"usage": usage, "service_tier": "priority"}


async def test_a_stream_that_is_cut_has_the_tier_that_it_named() -> None:
    """It is charged as far as it came."""
    door = made(stream_answer(frame(**TEXT, service_tier="flex"), UpstreamBroken("a")))
    answer = await door.call(STREAM_BODY)
    assert isinstance(answer, StreamingAnswer)
    with pytest.raises(AnswerCut):
        await answer.relay.run(FakeCaller())

    event = door.sink.events[0]
    assert (event.outcome, event.tier) == (Outcome.FAILED, Tier.FLEX)


async def test_the_tier_that_a_caller_asks_for_is_passed_on() -> None:
    """Untouched: the backend decides."""
    body = b'{"model":"own-gpt", "service_tier" : "priority","messages":[]}'
    door = made(chat(service_tier="default"))

    event = await event_of(door, body)

    assert door.upstream.requests[0].body == body
    assert event.tier is Tier.STANDARD


@pytest.mark.parametrize(
    ("tokens", "context"),
    [(272_000, Context.SHORT), (272_001, Context.LONG), (0, Context.SHORT)],
)
async def test_a_long_prompt_makes_a_call_of_long_context(tokens: int, context: Context) -> None:
    """All of it is then billed at other rates."""
    event = await event_of(made(chat(usage={**USAGE, "prompt_tokens": tokens})))

    assert event.context is context


async def test_where_context_is_long_is_a_setting() -> None:
    """Models differ."""
    door = made(chat())
    door.front_door.instance.long_context_tokens = 2

    assert (await event_of(door)).context is Context.LONG


async def test_an_event_names_the_place_and_the_type_of_its_deployment() -> None:
    """Prices differ by both."""
    typed = Deployment("own-gpt", deployment_type="data-zone")

    default = await event_of(made(chat()))
    other = await event_of(made(chat(), backend=own(deployments={"gpt": typed})))

    assert (default.region, default.deployment_type) == ("swedencentral", "global")
    assert (other.region, other.deployment_type) == ("swedencentral", "data-zone")


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        (chat(), "gpt-5.1-2026"),
        (chat(model=None), "gpt-5.1"),
        (chat(model=""), "gpt-5.1"),
        (chat(model="m" * 10_000), "gpt-5.1"),
        (json_answer(400, b'{"error":{"code":"x"}}'), "gpt-5.1"),
        (json_answer(500, b"{}"), "gpt-5.1"),
        (UpstreamTimeout("a"), "gpt-5.1"),
    ],
    ids=repr,
)
async def test_the_model_is_the_answers_else_the_configured_one(
    answer: FakeAnswer | Exception, model: str
) -> None:
    """So that images, audio and failures have one."""
    assert (await event_of(made(answer))).model == model


IMAGE_GEN = {"input_tokens": 40, "output_tokens": 1_000, "total_tokens": 1_040}
IMAGES = TokenUsage(
    prompt_tokens=40,
    completion_tokens=1_000,
    total_tokens=1_040,
    image_tokens=1_000,
    image_completion_tokens=1_000,
)


def response(**members: object) -> FakeAnswer:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    known = {"id": "resp_1", "object": "response", "status": "completed", "usage": usage}
    document = {**known, "tool_usage": {"image_gen": IMAGE_GEN}, **members}
    return json_answer(200, json.dumps(document).encode())


TOOLS = [{"type": "image_generation", "model": "gpt-image-2"}]


@pytest.mark.parametrize(
    ("named", "tools", "deployment", "model"),
    [
        (True, TOOLS, "images", "gpt-image-2"),
        (True, [], "images", "gpt-image-1"),
        (False, TOOLS, "gpt-image-2", "gpt-image-2"),
        (False, [], "image_generation", None),
        (False, [{"type": "image_generation"}], "image_generation", None),
        (False, [{"type": "image_generation", "model": "x" * 10_000}], "x" * 128, "x" * 128),
        (False, [{"type": "image_generation", "model": "a\x00\u202eb"}], "ab", "ab"),
        (False, [{"type": "image_generation", "model": "\ud800"}], "image_generation", None),
    ],
)
async def test_the_image_tool_is_counted_under_its_own_names(
    named: bool, tools: list[object], deployment: str, model: str | None
) -> None:
    """It is another model, with prices of its own; the call's own counts are not mixed with it."""
    headers = (*bearer(), *(((IMAGE_DEPLOYMENT, "images"),) if named else ()))

    event = await event_of(
        made(response(tools=tools)), RESPOND, path=V1_RESPONSES_PATH, headers=headers
    )

    assert event.tool_usage == (ToolUsage(deployment=deployment, model=model, usage=IMAGES),)
    assert event.usage.total_tokens == 7
    assert json.loads(encode_event(event))["data"]["tool_usage"][0]["deployment"] == deployment


@pytest.mark.parametrize(
    ("chat", "images", "expected"),
    [
        ("global", "data-zone", "data-zone"),
        (None, "data-zone", "data-zone"),
        ("regional", None, "global"),  # the backend's
        ("global", "global", None),
        (None, None, None),
    ],
)
async def test_the_image_tool_has_the_type_of_its_own_deployment(
    chat: str | None, images: str | None, expected: str | None
) -> None:
    """It decides what its tokens cost; the event says it where it is not the call's."""
    backend = own(
        deployments={
            "gpt": Deployment("own-gpt", deployment_type=chat),
            "images": Deployment("own-images", deployment_type=images),
        }
    )
    door = made(response(tools=TOOLS), backend=backend)

    event = await event_of(
        door, RESPOND, path=V1_RESPONSES_PATH, headers=(*bearer(), (IMAGE_DEPLOYMENT, "images"))
    )

    assert event.tool_usage[0].deployment_type == expected
    (sent,) = json.loads(encode_event(event))["data"]["tool_usage"]
    assert sent.get("deployment_type", "absent") == (expected or "absent")


async def test_a_stored_response_counts_no_tool_and_no_tier_again() -> None:
    """It was counted when it was made."""
    door = made(response(service_tier="priority", output=[{"type": "file_search_call"}]))

    answer = await door.call(b"", path=f"{V1_RESPONSES_PATH}/resp_1", method="GET")

    event = door.sink.events[0]
    assert answer.status == 200
    assert (event.usage, event.tool_usage, event.usage_raw) == (NO_USAGE, (), None)
    assert (event.service_tier, event.tier) == (None, Tier.STANDARD)


async def test_a_compacted_response_counts_no_call_again() -> None:
    """Its output repeats items of the responses that it compacts."""
    answer = response(output=[{"type": "file_search_call"}])

    event = await event_of(made(answer), RESPOND, path=f"{V1_RESPONSES_PATH}/compact")

    assert (event.usage, event.tool_usage) == (
        TokenUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7),
        (),
    )


async def test_a_background_responses_own_event_has_its_tools_and_its_rates() -> None:
    """The event of the call that makes it counts nothing."""
    output = [{"type": "file_search_call"}] * 2
    document = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_763_000_000,
        "status": "completed",
        "background": True,
        "model": "gpt-5.1-2026",
        "service_tier": "flex",
        "output": output,
        "tool_usage": {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 3}},
        "usage": {"input_tokens": 300_000, "output_tokens": 4, "total_tokens": 300_004},
    }
    data = json.dumps({"type": "response.completed", "response": document})
    door = made(stream_answer(f"event: response.completed\ndata: {data}\n\n".encode()))
    body = b'{"model":"gpt","input":"x","background":true,"stream":true}'
    answer = await door.call(body, path=V1_RESPONSES_PATH)
    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(FakeCaller())

    its, call = door.sink.events
    assert (its.usage.web_search_calls, its.usage.file_search_calls) == (3, 2)
    assert its.tool_usage == (ToolUsage(deployment="image_generation", model=None, usage=IMAGES),)
    assert (its.tier, its.service_tier, its.context) == (Tier.FLEX, "flex", Context.LONG)
    assert (its.region, its.deployment_type) == ("swedencentral", "global")
    assert (call.usage, call.tool_usage, call.context) == (NO_USAGE, (), Context.SHORT)


NEWER = ("region", "deployment_type", "service_tier", "context", "tool_usage")


async def test_what_tells_the_rates_of_a_typical_call_takes_400_bytes_at_most() -> None:
    """The hub is paid by its size; counts that are 0 are left out for it."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
    }
    event = await event_of(made(chat(usage={**USAGE, **details}, service_tier="default")))

    encoded = encode_event(event)
    document = json.loads(encoded)
    data = {name: value for name, value in document["data"].items() if name not in NEWER}
    data["principal"].pop("name")
    data["usage"] |= {"audio_tokens": 0, "image_tokens": 0, "seconds": 0}
    data["usage_raw"] = data["usage_raw"]["usage"]
    before = json.dumps({**document, "data": data}, separators=(",", ":"))
    assert len(before) < len(encoded) <= len(before) + 400
