"""Counts what stands in the lists of an answer: generated images, and calls of hosted tools.

Only the counts are kept, so that a list of any length takes no memory.
"""

from collections.abc import Mapping
from typing import cast

from msgspec import Struct, field

from meter.gateway.answer.reading.counts import count_of

MAX_CONTAINERS = 10_000
MAX_CONTAINER_CHARS = 128


class Items(Struct):
    """The objects of one list, added one after the other; other values are not counted.

    `is_whole` is false while the list may go on. `containers` has the ids of those in which the code
    interpreter ran, `image_model` is the model of the first image tool that names one.
    """

    count: int = 0
    is_whole: bool = False
    searches: int = 0
    file_searches: int = 0
    containers: set[str] = field(default_factory=set)
    image_model: object = None

    @property
    def has_calls(self) -> bool:
        """Whether hosted tools were called."""
        return bool(self.searches or self.file_searches or self.containers)

    @classmethod
    def of(cls, listed: object) -> "Items":
        """The items of a JSON list; none of another value."""
        items = cls(is_whole=True)
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, dict):
                items.count += 1
                items.add(item)
        return items

    def add(self, item: Mapping[str, object]) -> None:
        """Note what an item is, by its type."""
        match item.get("type"):
            case "web_search_call":
                action = item.get("action")
                self.searches += isinstance(action, dict) and action.get("type") == "search"
            case "file_search_call":
                self.file_searches += 1
            case "code_interpreter_call":
                self._add_container(item.get("container_id"))
            case "image_generation" if self.image_model is None:
                self.image_model = item.get("model")

    def _add_container(self, container: object) -> None:
        is_id = isinstance(container, str) and container
        if is_id and len(self.containers) < MAX_CONTAINERS:
            self.containers.add(str(container)[:MAX_CONTAINER_CHARS])


def hosted_calls(output: Items | None, tool_usage: Mapping[str, object] | None) -> dict[str, int]:
    """The calls of a response's hosted tools, by the names of their counts, but for zeros.

    The answer's own number of searches wins: it has no discounted ones, which are items, too.
    """
    found = _NO_ITEMS if output is None else output
    if tool_usage is None and not found.has_calls:
        return {}  # nearly every response
    searches = found.searches
    if tool_usage is not None and isinstance(reported := tool_usage.get("web_search"), dict):
        told = count_of(cast(Mapping[str, object], reported).get("num_requests"))
        searches = searches if told is None else told
    calls = {
        "web_search_calls": searches,
        "file_search_calls": found.file_searches,
        "code_interpreter_calls": len(found.containers),
    }
    return {name: count for name, count in calls.items() if count}


_NO_ITEMS = Items()
