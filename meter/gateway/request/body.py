"""A caller's JSON body: parsed once, and changed by splicing, so that the rest keeps its bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # in the module, not in typeshed

from meter.errors import BadRequest

MAX_OUTPUT_TOKENS = 10_000_000
_OUTPUT_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_ANSWERS = ("n", "best_of")
_WHITESPACE = " \t\n\r"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonBody:
    """The parts of a request body that decide what happens to it.

    `output_tokens` is how many the caller lets its answers have, 0 where it does not say.
    """

    text: str
    model: object
    is_streaming: bool
    stream_options: object
    is_background: bool
    previous_response_id: str | None
    output_tokens: int = 0

    @property
    def asks_for_usage(self) -> bool:
        """Whether the caller itself asked for the usage frame."""
        options = self.stream_options
        return isinstance(options, dict) and options.get("include_usage") is True


def parse_body(raw: bytes) -> JsonBody:
    """Read a JSON object. Raises BadRequest for anything else."""
    try:
        text = raw.decode("utf-8-sig")
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(
            "The request body is not valid JSON; send a JSON object in UTF-8."
        ) from None
    if not isinstance(document, dict):
        raise BadRequest("The request body must be a JSON object.")
    previous = document.get("previous_response_id")
    return JsonBody(
        text=text,
        model=document.get("model"),
        is_streaming=document.get("stream") is True,
        stream_options=document.get("stream_options"),
        is_background=document.get("background") is True,
        previous_response_id=previous if isinstance(previous, str) else None,
        output_tokens=output_tokens(document),
    )


def output_tokens(members: Mapping[str, object]) -> int:
    """The most tokens that the answers may have, by a body's top-level members; 0 if unlimited."""
    limits = [_whole_number(members.get(name)) for name in _OUTPUT_LIMITS]
    answers = [_whole_number(members.get(name)) for name in _ANSWERS]
    return min(max(limits) * max(*answers, 1), MAX_OUTPUT_TOKENS)


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def with_usage_asked(body: JsonBody) -> dict[str, str]:
    """The member that makes the backend report usage at the end of a stream, as JSON text."""
    options = body.stream_options if isinstance(body.stream_options, dict) else {}
    return {"stream_options": json.dumps({**options, "include_usage": True})}


def spliced(text: str, members: Mapping[str, str]) -> bytes:
    """The JSON object `text` with top-level members set to the given JSON texts.

    Existing members (each of them, where a name is repeated) are replaced in place, new ones are
    put first, and all other characters stay the same. `text` must be a valid JSON object.
    """
    spans = [span for span in _member_spans(text) if span[0] in members]
    for name, start, end in reversed(spans):
        text = text[:start] + members[name] + text[end:]
    present = {name for name, _, _ in spans}
    added = [
        f"{json.dumps(name)}:{value}" for name, value in members.items() if name not in present
    ]
    if added:
        opening = text.index("{") + 1
        rest = text[opening:]
        comma = "" if rest.lstrip(_WHITESPACE).startswith("}") else ","
        text = text[:opening] + ",".join(added) + comma + rest
    return text.encode()


def _member_spans(text: str) -> list[tuple[str, int, int]]:
    """(name, start, end) of each top-level member's value, in order."""
    spans = []
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = scanstring(text, at + 1, True)
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        _, end = _DECODER.raw_decode(text, at)
        spans.append((name, at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans


def _skip(text: str, at: int) -> int:
    while text[at] in _WHITESPACE:
        at += 1
    return at
