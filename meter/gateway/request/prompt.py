"""What a JSON body's prompt consists of, for estimates; a long body is read piece by piece."""

import json
from collections.abc import Iterable, Iterator

from meter.gateway.answer.estimate import (
    DEFINITIONS,
    MAX_DEPTH,
    PROMPT_MEMBERS,
    TEXT_MEMBERS,
    PromptPart,
    prompt_texts,
)
from meter.gateway.request.body import JsonBody
from meter.gateway.request.members import Member
from meter.gateway.request.scan import children

MAX_SHORT_BYTES = 131_072  # of what is read whole


def texts_of(body: JsonBody) -> list[PromptPart]:
    """The prompt's parts; none where the body was dropped. Of a long one it takes a while."""
    raw = body.raw
    if len(raw) <= MAX_SHORT_BYTES:
        return prompt_texts(json.loads(raw)) if raw else []
    named = [name for name in (*PROMPT_MEMBERS, *DEFINITIONS) if name in body.spans]
    return [part for name in named for part in _parts(raw, Member(name, *body.spans[name]))]


def _parts(raw: bytes, member: Member, depth: int = 0) -> Iterator[PromptPart]:
    text = raw[member.start : member.end]
    if len(text) <= MAX_SHORT_BYTES or text[:1] == b'"':
        name = member.name if depth == 0 else PROMPT_MEMBERS[0]
        yield from prompt_texts({name: json.loads(text)})
    elif member.name in DEFINITIONS and depth == 0:
        yield text.decode()
    elif text[:1] == b"[" and depth < MAX_DEPTH:
        yield from _items(raw, children(raw, member.start), depth)
    elif depth < MAX_DEPTH:
        yield from _members(raw, member.start, depth)


def _items(raw: bytes, items: Iterable[Member], depth: int) -> Iterator[PromptPart]:
    """Short ones are read together, many at a time."""
    together: list[Member] = []
    for item in items:
        is_short = _is_short(item)
        if together and not (is_short and item.end - together[0].start <= MAX_SHORT_BYTES):
            yield from _joined(raw, together)
            together = []
        if is_short:
            together.append(item)
        else:
            yield from _parts(raw, item, depth + 1)
    yield from _joined(raw, together)


def _joined(raw: bytes, items: list[Member]) -> list[PromptPart]:
    if not items:
        return []
    text = b"[%b]" % raw[items[0].start : items[-1].end]
    return prompt_texts({PROMPT_MEMBERS[0]: json.loads(text)})


def _members(raw: bytes, start: int, depth: int) -> Iterator[PromptPart]:
    """A message with a long content, or a part such as an image, whose long members do not count."""
    shown: dict[str, object] = {}
    for member in children(raw, start):
        if _is_short(member):
            shown[member.name] = _value(raw, member)
        elif member.name in TEXT_MEMBERS:
            yield from _parts(raw, member, depth + 1)
        elif raw[member.start : member.start + 1] == b"{":
            inner = filter(_is_short, children(raw, member.start))
            shown[member.name] = {each.name: _value(raw, each) for each in inner}
    yield from prompt_texts({PROMPT_MEMBERS[0]: shown})


def _is_short(member: Member) -> bool:
    return member.end - member.start <= MAX_SHORT_BYTES


def _value(raw: bytes, member: Member) -> object:
    return json.loads(raw[member.start : member.end])
