"""Builds the items, the events and the bill of the hosted tools that a Responses call asked for.

Words of the input ask for them (asked.py). The items precede the answer's message. Each image of the
image tool costs its deployment 250 input tokens (200 of image, 100 of all cached, of which 80 of
image) and 1,056 output tokens of image. `tool_usage` is told when an image was made, or when
`web_search_requests` asks for it; without it, only the items tell how often a tool was called.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from local.openai.answers import Stamp
from local.openai.asked import TOOL_CALLS, Asked
from local.openai.billing import IMAGE_TOOL, Bill, ToolBill, make_bill
from local.openai.call import Call, JsonObject

_PHASES = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
}
_IMAGE_TOKENS = {
    "prompt_tokens": 250,
    "image_prompt_tokens": 200,
    "cached_tokens": 100,
    "image_cached_tokens": 80,
    "completion_tokens": 1056,
    "image_completion_tokens": 1056,
}
_NO_IMAGES = make_bill(IMAGE_TOOL, dict.fromkeys(_IMAGE_TOKENS, 0), Asked()).usage
_MOST_ITEMS = 20_000
_IMAGE_BYTES = 512
_USUAL_IMAGE_MODEL = "gpt-image-1"


@dataclass(frozen=True, slots=True)
class _Place:
    """What differs between the items of one kind."""

    identity: str
    index: int
    containers: int


def tool_items(call: Call, stamp: Stamp) -> list[JsonObject]:
    """The items of the tools, all completed."""
    items: list[JsonObject] = []
    for name in TOOL_CALLS:
        number = min(call.asked.number(name, 0), _MOST_ITEMS)
        places = (_Place(stamp.identity, index, _containers(call)) for index in range(number))
        items += [_MAKERS[name](place) for place in places]
    return items


def tool_events(item: JsonObject, output_index: int) -> Iterator[JsonObject]:
    """The events of one item."""
    place: JsonObject = {"output_index": output_index}
    running = item | {"status": "in_progress"} | ({"result": None} if "result" in item else {})
    yield place | {"type": "response.output_item.added", "item": running}
    for phase in _PHASES.get(str(item.get("type")), ()):
        yield place | {"type": f"response.{item['type']}.{phase}", "item_id": item["id"]}
    yield place | {"type": "response.output_item.done", "item": item}


def tool_usage(call: Call) -> JsonObject:
    """The `tool_usage` of a response, or nothing where it is not told."""
    image = _image_bill(call)
    if image is None and "web_search_requests" not in call.asked.values:
        return {}
    requests = call.asked.values.get("web_search_requests", call.asked.number("web_searches", 0))
    return {
        "tool_usage": {
            "image_gen": image.usage if image else _NO_IMAGES,
            "web_search": {"num_requests": requests},
        }
    }


def tool_counts(call: Call) -> Mapping[str, int]:
    """The calls of hosted tools that the account bills, by the names of the usage event."""
    asked = call.asked
    searches = asked.number("web_search_requests", asked.number("web_searches", 0))
    counts = {
        "web_search_calls": searches,
        "file_search_calls": asked.number("file_searches", 0),
        "code_interpreter_calls": min(asked.number("code_runs", 0), _containers(call)),
    }
    return {name: count for name, count in counts.items() if count}


def tool_bills(call: Call) -> tuple[ToolBill, ...]:
    """What the deployment of the image tool bills."""
    bill = _image_bill(call)
    if bill is None:
        return ()
    deployment = call.image_deployment or _image_model(call)
    return (ToolBill(deployment=deployment, model=_image_model(call), counts=bill.counts),)


def _image_bill(call: Call) -> Bill | None:
    images = call.asked.number("image_calls", 0)
    if not images:
        return None
    rule = {name: count * images for name, count in _IMAGE_TOKENS.items()}
    return make_bill(IMAGE_TOOL, rule, call.asked.of_tool)


def _image_model(call: Call) -> str:
    tools = call.body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") == "image_generation" and tool.get("model"):
            return str(tool["model"])
    return _USUAL_IMAGE_MODEL


def _containers(call: Call) -> int:
    return max(1, call.asked.number("containers", 1))


def _web_search(place: _Place) -> JsonObject:
    query = f"question {place.index}"
    return _search_item(place, {"type": "search", "query": query, "queries": [query]})


def _page_open(place: _Place) -> JsonObject:
    return _search_item(place, {"type": "open_page", "url": f"https://pages.example/{place.index}"})


def _page_find(place: _Place) -> JsonObject:
    action: JsonObject = {"type": "find_in_page", "url": f"https://pages.example/{place.index}"}
    return _search_item(place, action | {"pattern": "token"})


def _search_item(place: _Place, action: JsonObject) -> JsonObject:
    identity = f"ws_{place.identity}_{action['type']}_{place.index}"
    return {"id": identity, "type": "web_search_call", "status": "completed", "action": action}


def _file_search(place: _Place) -> JsonObject:
    return {
        "id": f"fs_{place.identity}_{place.index}",
        "type": "file_search_call",
        "status": "completed",
        "queries": [f"question {place.index}"],
        "results": None,
    }


def _code_run(place: _Place) -> JsonObject:
    return {
        "id": f"ci_{place.identity}_{place.index}",
        "type": "code_interpreter_call",
        "status": "completed",
        "code": f"print({place.index})",
        "container_id": f"cntr_{place.identity}_{place.index % place.containers}",
        "outputs": None,
    }


def _image_call(place: _Place) -> JsonObject:
    noise = hashlib.shake_256(f"{place.identity} {place.index}".encode()).digest(_IMAGE_BYTES)
    return {
        "id": f"ig_{place.identity}_{place.index}",
        "type": "image_generation_call",
        "status": "completed",
        "action": "generate",
        "background": "opaque",
        "output_format": "png",
        "quality": "medium",
        "result": base64.b64encode(noise).decode(),
        "revised_prompt": "a picture of a token",
        "size": "1024x1024",
    }


def _untyped(place: _Place) -> JsonObject:
    return {
        "id": f"item_{place.identity}_{place.index}",
        "status": "completed",
        "action": {"type": "search"},
    }


_MAKERS: Mapping[str, Callable[[_Place], JsonObject]] = {
    "web_searches": _web_search,
    "page_opens": _page_open,
    "page_finds": _page_find,
    "file_searches": _file_search,
    "code_runs": _code_run,
    "image_calls": _image_call,
    "untyped_items": _untyped,
}
