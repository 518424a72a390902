"""The stand-in makes and edits images in the shapes that the SDK reads, and bills them by a rule."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai.types import (
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImagesResponse,
)

from local.openai import refusals
from tests.support.openai_bench import API_VERSION, KEY, Bench, open_bench

MODEL = "gpt-image-1"
PROMPT = "a red square"  # 3 text tokens
PNG = b"\x89PNG\r\n\x1a\n--not a boundary\r\n\x00\xff"
BOTH_SHAPES = pytest.mark.parametrize("shape", ["classic", "v1"])
V1_EDITS = "/openai/v1/images/edits"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "calls.jsonl") as opened:
        yield opened


def strict(shape: type[Any], answer: Any) -> Any:
    """An answer, revalidated without the SDK's leniency."""
    return shape.model_validate(answer.to_dict(), strict=True)


def usage_of(answer: ImagesResponse) -> tuple[int, int, int, int, int]:
    """Text and image tokens of the input, then input, output and total."""
    assert answer.usage is not None
    details = answer.usage.input_tokens_details
    return (
        details.text_tokens,
        details.image_tokens,
        answer.usage.input_tokens,
        answer.usage.output_tokens,
        answer.usage.total_tokens,
    )


@BOTH_SHAPES
async def test_images_are_billed_by_the_rule(bench: Bench, shape: str) -> None:
    """Input: words of the prompt; output: 1,056 tokens per image, 272 in low quality."""
    client = bench.client(shape)
    usual = await client.images.generate(model=MODEL, prompt=PROMPT)
    two = await client.images.generate(model=MODEL, prompt=PROMPT, quality="low", n=2)

    assert usage_of(strict(ImagesResponse, usual)) == (3, 0, 3, 1056, 1059)
    assert usage_of(strict(ImagesResponse, two)) == (3, 0, 3, 544, 547)
    first, second = await bench.calls()
    assert first["usage"]["total_tokens"] == 1059
    assert (second["operation"], second["deployment"]) == ("images/generations", MODEL)
    assert second["usage"] == two.to_dict()["usage"]


async def test_images_depend_on_the_prompt_alone(bench: Bench) -> None:
    """The same prompt gives the same bytes, another one different bytes; they begin as a PNG file."""
    first = await bench.v1.images.generate(model=MODEL, prompt=PROMPT, n=2)
    again = await bench.azure.images.generate(model=MODEL, prompt=PROMPT, n=2)
    other = await bench.v1.images.generate(model=MODEL, prompt="a blue one", n=2)

    assert first.data is not None
    images = [base64.b64decode(image.b64_json or "") for image in first.data]
    assert first.data == again.data
    assert first.data != other.data
    assert images[0] != images[1]
    assert {len(image) for image in images} == {33_792}
    assert {image[:8] for image in images} == {b"\x89PNG\r\n\x1a\n"}


@BOTH_SHAPES
async def test_an_edit_bills_the_uploaded_images(bench: Bench, shape: str) -> None:
    """200 input image tokens per image of the form, none for the mask."""
    client = bench.client(shape)
    one = await client.images.edit(model=MODEL, image=PNG, prompt=PROMPT)
    two = await client.images.edit(model=MODEL, image=[PNG, PNG], mask=PNG, prompt=PROMPT, n=2)

    assert usage_of(strict(ImagesResponse, one)) == (3, 200, 203, 1056, 1259)
    assert usage_of(strict(ImagesResponse, two)) == (3, 400, 403, 2112, 2515)
    assert two.data is not None
    assert len(two.data) == 2
    call = (await bench.calls())[-1]
    assert (call["operation"], call["deployment"]) == ("images/edits", MODEL)
    assert (call["usage"]["input_tokens"], len(call["body_sha256"])) == (403, 64)
    assert "not a boundary" not in json.dumps(call)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [({"images": [{"image_url": "a"}, {"image_url": "b"}]}, 400), ({"image": "a"}, 200)],
)
async def test_an_edit_can_be_requested_in_json(
    bench: Bench, given: dict[str, object], tokens: int
) -> None:
    """Images that are referenced instead of uploaded count the same."""
    status, answer = await bench.post(V1_EDITS, {"model": MODEL, "prompt": PROMPT} | given)

    assert status == 200
    assert answer["usage"]["input_tokens_details"]["image_tokens"] == tokens


@BOTH_SHAPES
async def test_a_stream_of_an_image_ends_with_its_usage(bench: Bench, shape: str) -> None:
    """Partial images cost 100 output tokens each; the whole image comes last and has the usage."""
    stream = await bench.client(shape).images.generate(
        model=MODEL, prompt=PROMPT, stream=True, partial_images=2
    )
    *partial, last = [event async for event in stream]

    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert [strict(ImageGenPartialImageEvent, event).partial_image_index for event in partial] == [
        0,
        1,
    ]
    completed = strict(ImageGenCompletedEvent, last)
    assert (completed.usage.input_tokens, completed.usage.output_tokens) == (3, 1256)
    [call] = await bench.calls()
    assert (call["streaming"], call["usage"]["total_tokens"]) == (True, 1259)


@BOTH_SHAPES
async def test_a_stream_of_an_edit_ends_with_its_usage(bench: Bench, shape: str) -> None:
    """The form's texts `true` and `0` are read as JSON values."""
    edit = bench.client(shape).images.edit
    usual = await edit(model=MODEL, image=PNG, prompt=PROMPT, stream=True)
    bare = await edit(model=MODEL, image=PNG, prompt=PROMPT, stream=True, partial_images=0)
    partial, last = [event async for event in usual]
    [only] = [event async for event in bare]

    assert strict(ImageEditPartialImageEvent, partial).type == "image_edit.partial_image"
    assert strict(ImageEditCompletedEvent, last).usage.total_tokens == 1359
    assert strict(ImageEditCompletedEvent, only).usage.total_tokens == 1259


async def test_an_image_stream_has_no_done_frame(bench: Bench) -> None:
    """Its events are named, and the completed one is the last."""
    body = {"model": MODEL, "prompt": PROMPT, "stream": True, "quality": "high"}
    url = f"{bench.url}/openai/v1/images/generations"
    async with bench.http.post(url, json=body, headers={"api-key": KEY}) as answer:
        frames = (await answer.text()).split("\n\n")

    assert [frame.partition("\n")[0] for frame in frames] == [
        "event: image_generation.partial_image",
        "event: image_generation.completed",
        "",
    ]
    assert len(frames[1]) > 65_536


async def test_dall_e_has_no_usage(bench: Bench) -> None:
    """It returns URLs, or base64 on request; tokens are neither reported nor recorded."""
    named = await bench.azure.images.generate(model="dall-e-3", prompt=PROMPT)
    sent = await bench.v1.images.generate(
        model="dall-e-3", prompt=PROMPT, response_format="b64_json"
    )

    assert (named.usage, sent.usage) == (None, None)
    assert named.data is not None
    assert sent.data is not None
    assert (named.data[0].url or "").startswith("https://")
    assert (named.data[0].b64_json, sent.data[0].url) == (None, None)
    assert [call["usage"] for call in await bench.calls()] == [None, None]


async def test_an_image_can_leave_its_usage_out(bench: Bench) -> None:
    """`no_usage` hides it, whole or streamed; the record still has it."""
    await bench.fault(no_usage=True, count=2)
    whole = await bench.v1.images.generate(model=MODEL, prompt=PROMPT)
    stream = await bench.v1.images.generate(model=MODEL, prompt=PROMPT, stream=True)
    events = [event.to_dict() async for event in stream]

    assert whole.usage is None
    assert not any("usage" in event for event in events)
    assert [call["usage"]["total_tokens"] for call in await bench.calls()] == [1059, 1159]


async def test_a_form_without_its_end_is_refused(bench: Bench) -> None:
    """A truncated body is a 400 in Azure's shape, even if its fields are readable."""
    form = aiohttp.FormData({"model": MODEL, "prompt": PROMPT})
    form.add_field("image", PNG, filename="a.png")
    writer = form()
    whole = await writer.as_bytes()
    headers = {"api-key": KEY, "content-type": str(writer.headers["content-type"])}
    right, _ = await bench.ask("POST", V1_EDITS, headers=headers, data=whole)
    status, error = await bench.ask("POST", V1_EDITS, headers=headers, data=whole[:-4])

    assert (right, status) == (200, 400)
    assert error["error"]["type"] == "invalid_request_error"
    assert set(error["error"]) == {"code", "message", "type", "param"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("images/generations", {"model": MODEL}, 400, None),
        ("images/edits", {"model": MODEL, "prompt": PROMPT}, 400, None),
        ("images/edits", {"prompt": PROMPT}, 404, "DeploymentNotFound"),
        ("images/generations", {"model": "gpt-4o", "prompt": "x"}, 400, "OperationNotSupported"),
        ("chat/completions", {"model": MODEL, "messages": []}, 400, "OperationNotSupported"),
    ],
)
async def test_a_wrong_image_call_is_refused(
    bench: Bench, path: str, body: dict[str, object], status: int, code: str | None
) -> None:
    """Mandatory fields are missing, or the model is of another family."""
    answered, error = await bench.post(f"/openai/v1/{path}", body)

    assert (answered, error["error"]["code"]) == (status, code)
    [call] = await bench.calls()
    assert (call["operation"], call["status"], call["usage"]) == (path, status, None)


async def test_images_are_generated_from_json_only(bench: Bench) -> None:
    """A complete form is still a body that cannot be parsed."""
    form = aiohttp.FormData({"model": MODEL, "prompt": PROMPT}, default_to_multipart=True)
    answered, error = await bench.ask("POST", "/openai/v1/images/generations", data=form)

    assert (answered, error) == (400, refusals.unreadable_body())


async def test_faults_strike_images(bench: Bench) -> None:
    """They are throttled by the name of the operation."""
    await bench.fault(status=429, deployment=MODEL, count=2)
    with pytest.raises(openai.RateLimitError, match="ImageGenerations_Create"):
        await bench.azure.images.generate(model=MODEL, prompt=PROMPT)
    with pytest.raises(openai.RateLimitError, match="ImageEdits_Create"):
        await bench.azure.images.edit(model=MODEL, image=PNG, prompt=PROMPT)

    assert [call["api_version"] for call in await bench.calls()] == [API_VERSION] * 2
