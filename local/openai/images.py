"""Answers image generations and edits: bytes that look like a PNG file and depend on the call.

A gpt-image model returns the bytes in base64 and its usage; its streams end with the event that
carries both, without `[DONE]`. A DALL-E model returns URLs (or base64 on request), no usage and no
streams.
"""

import base64
import hashlib
from collections.abc import Iterator

from local.openai.answers import (
    Answer,
    Stamp,
    event_frame,
    event_stream,
    json_answer,
    shown_usage,
)
from local.openai.billing import Bill
from local.openai.call import Call, JsonObject, Operation
from local.openai.families import Family, family_of
from local.openai.media import ImageCount, count_images, image_bill

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def image_answer(call: Call, stamp: Stamp, *, no_usage: bool = False) -> Answer:
    """The requested images, whole or streamed."""
    if family_of(call.model) is Family.DALL_E:
        return _dall_e_answer(call, stamp)
    count = count_images(call, is_streamed=call.is_streaming)
    bill = image_bill(call, count)
    if call.is_streaming:
        events = _events(call, count, stamp, shown_usage(bill, no_usage=no_usage))
        return event_stream((event_frame(event) for event in events), bill)
    images = [{"b64_json": _image(call, index, count.image_bytes)} for index in range(count.images)]
    content = {"created": stamp.created, **_look(call), "data": images}
    return json_answer(content, bill, no_usage=no_usage)


def _dall_e_answer(call: Call, stamp: Stamp) -> Answer:
    count = count_images(call, is_streamed=False)
    is_base64 = call.body.get("response_format") == "b64_json"
    images = [
        {"b64_json": _image(call, index, count.image_bytes)}
        if is_base64
        else {"url": f"https://images.example/{stamp.identity}/{index}.png"}
        for index in range(count.images)
    ]
    bill = Bill(counts={"images": count.images})
    return json_answer({"created": stamp.created, "data": images}, bill, no_usage=True)


def _events(call: Call, count: ImageCount, stamp: Stamp, usage: JsonObject) -> Iterator[JsonObject]:
    is_edit = call.operation is Operation.IMAGE_EDITS
    prefix = "image_edit" if is_edit else "image_generation"
    common = {"created_at": stamp.created, **_look(call)}
    for index in range(count.partial_images):
        yield {
            "type": f"{prefix}.partial_image",
            **common,
            "partial_image_index": index,
            "b64_json": _image(call, index, count.partial_bytes),
        }
    yield {
        "type": f"{prefix}.completed",
        **common,
        "b64_json": _image(call, 0, count.image_bytes),
        **usage,
    }


def _look(call: Call) -> JsonObject:
    usual = {
        "background": "opaque",
        "output_format": "png",
        "quality": "medium",
        "size": "1024x1024",
    }
    asked = {name: call.body.get(name) for name in usual}
    return usual | {name: value for name, value in asked.items() if value not in (None, "auto")}


def _image(call: Call, index: int, size: int) -> str:
    seed = f"{call.body.get('prompt')} {index}".encode(errors="surrogatepass")
    noise = hashlib.shake_256(seed).digest(size - len(_PNG_SIGNATURE))
    return base64.b64encode(_PNG_SIGNATURE + noise).decode()
