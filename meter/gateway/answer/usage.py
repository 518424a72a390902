"""Reads what an answer reports: token usage, hosted tools, service tier, model and id.

Sources: Azure OpenAI REST reference and OpenAI API reference. Answers are hostile input: what makes
no sense is left out by rule, and nothing here raises.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from msgspec import Struct

from meter.gateway.answer.reading.counts import MAX_COUNT, Output, read_usage
from meter.gateway.answer.reading.items import Items, hosted_calls
from meter.gateway.answer.reading.members import decoded_json, read_members
from meter.gateway.answer.reading.ordinary import Members, ordinary_members
from meter.patterns import lazy_pattern
from meter.usage import NO_USAGE, TokenUsage, clean_name, is_writable

MAX_MODEL_CHARS = 128
MAX_PARSED_BYTES = 1_048_576  # parsing more would delay every other call

_ID = lazy_pattern(rb'"id"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9._-]{1,128})"')
_HEAD_BYTES = 4_096
_RESPONSE_ID = lazy_pattern(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_FINAL_STATUSES = (
    "completed",
    "incomplete",
    "failed",
    "cancelled",
)  # `in` takes values of any kind
_FIRST, _LAST = 946_684_800, 4_102_444_800  # the years 2000 to 2099


class BackgroundResponse(Struct, frozen=True, kw_only=True):
    """A response that runs in the background, as an answer shows it.

    `created_at` is the same in every answer about it; `is_over` says that its usage is final.
    """

    id: str
    created_at: datetime
    is_over: bool
    has_failed: bool = False
    is_cancelled: bool = False


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """What an answer reports.

    `reported` is its usage object, `tool_usage` that of the tools, `tier` its `service_tier`, each as
    it came. `output` and `tools` are the items of a response, `images` how many images the answer
    holds, where it lists any. `background` is the background response it is about, if any;
    `has_failed`: it is a response that has failed.
    """

    reported: Mapping[str, object] | None = None
    tool_usage: Mapping[str, object] | None = None
    tier: object = None
    output: Items | None = None
    image_model: str | None = None
    images: int | None = None
    model: str | None = None
    background: BackgroundResponse | None = None
    has_failed: bool = False

    @property
    def usage(self) -> TokenUsage | None:
        """The counts; None when there is no usage, or its counts are invalid."""
        return self.usage_of(Output.TEXT)

    def usage_of(self, output: Output) -> TokenUsage | None:
        """The counts of an operation whose completions consist of `output`."""
        usage = None if self.reported is None else read_usage(self.reported, output=output)
        if usage is None or (self.output is None and self.tool_usage is None):
            return usage
        calls = hosted_calls(self.output, self.tool_usage)
        return usage._replace(**calls) if calls else usage

    @property
    def image_usage(self) -> TokenUsage:
        """The tokens of the model that the image tool of Responses called."""
        raw = None if self.tool_usage is None else self.tool_usage.get("image_gen")
        if not isinstance(raw, dict):
            return NO_USAGE
        counts = cast(Mapping[str, object], raw)
        return read_usage(counts, output=Output.IMAGE) or NO_USAGE

    @property
    def service_tier(self) -> str | None:
        """The answer's word for its service tier, cut to a name."""
        return clean_name(self.tier)

    @property
    def usage_raw(self) -> Mapping[str, object] | None:
        """Those of `usage`, `tool_usage` and `service_tier` that came, as they came."""
        came: dict[str, object] = {} if self.reported is None else {"usage": self.reported}
        if self.tool_usage is not None:
            came["tool_usage"] = self.tool_usage
        if self.tier is not None:
            came["service_tier"] = self.tier
        return came or None

    def followed_by(self, later: "Reading") -> "Reading":
        """What holds of two frames of one stream: the later, where it says something.

        Usage that counts nothing replaces none. Model and images are the reader's to follow.
        """
        return Reading(
            reported=later_usage(self.reported, later.reported),
            tool_usage=later.tool_usage or self.tool_usage,
            tier=self.tier if later.tier is None else later.tier,
            output=self.output if later.output is None else later.output,
            image_model=later.image_model or self.image_model,
            images=self.images,
            model=self.model,
            background=later.background or self.background,
            has_failed=self.has_failed,
        )


NOTHING_READ = Reading()


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is JSON's own, or has the suffix `+json` (RFC 6839)."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in {"application/json", "text/json"} or kind.endswith("+json")


def read_answer(body: bytes) -> Reading:
    """Read a whole JSON answer; a long one is not parsed, only looked through."""
    reading = read_ordinary(body)
    if reading is not None:
        return reading
    is_long = len(body) > MAX_PARSED_BYTES
    return read_document(read_members(body) if is_long else json_object(body) or {})


def read_ordinary(body: bytes) -> Reading | None:
    """Read an ordinary JSON answer, in a millisecond per MiB; None for one that is long or odd."""
    members = ordinary_members(body) if len(body) <= MAX_PARSED_BYTES else None
    return None if members is None else _reading(members)


def read_document(document: Mapping[str, object]) -> Reading:
    """Read an answer's JSON object, or what `MemberReader` keeps of it."""
    return _reading(Members.of(document))


def _reading(told: Members) -> Reading:
    """Whisper reports the length of its audio as `duration`, beside the text and without usage."""
    usage, tool_usage, output = told.usage, told.tool_usage, told.output
    usage = usage if isinstance(usage, dict) else None
    tool_usage = tool_usage if isinstance(tool_usage, dict) else None
    if told.duration is not None and (usage is None or read_usage(usage) is None):
        usage = {"duration": told.duration}
    return Reading(
        reported=usage,
        tool_usage=tool_usage,
        tier=told.service_tier,
        output=None if output is None else _items(output),
        image_model=None if tool_usage is None else _image_model(told.tools),
        images=None if told.data is None else _count_of(told.data),
        model=model_name(told.model),
        background=_background(told) if told.background is True else None,
        has_failed=told.object == "response" and told.status == "failed",
    )


def later_usage(
    before: Mapping[str, object] | None, now: Mapping[str, object] | None
) -> Mapping[str, object] | None:
    """What holds of two usage objects of one answer: the later, unless it counts nothing."""
    if before is None or now is None:
        return before if now is None else now
    counts_nothing = read_usage(now) in {None, NO_USAGE}
    return before if counts_nothing and read_usage(before) is not None else now


def added_usage(
    before: Mapping[str, object] | None, now: Mapping[str, object] | None
) -> Mapping[str, object] | None:
    """The sum of the usage objects of two images of one answer; what is no count adds nothing."""
    if before is None or now is None:
        return before if now is None else now
    return {**before, **{name: _added(before.get(name), value) for name, value in now.items()}}


def read_response_id(beginning: bytes) -> str | None:
    """The id of a stored response, from the beginning of the answer that made it.

    Ids of messages and tools may precede it; a response's own begins with `resp`.
    """
    found = [each.decode() for each in _ID.findall(beginning[:_HEAD_BYTES])]
    return next((each for each in found if each.startswith("resp")), found[0] if found else None)


def json_object(text: bytes) -> dict[str, object] | None:
    """The JSON object; None when the text is anything else."""
    document = decoded_json(text)
    return document if isinstance(document, dict) else None


def model_name(name: object) -> str | None:
    """The name, where it can be a model's name."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_MODEL_CHARS:
        return None
    return name if is_writable(name) else None


def _background(told: Members) -> BackgroundResponse | None:
    response_id, status, created_at = told.id, told.status, _moment(told.created_at)
    is_named = isinstance(response_id, str) and _RESPONSE_ID.fullmatch(response_id) is not None
    if not is_named or created_at is None:
        return None
    return BackgroundResponse(
        id=str(response_id),
        created_at=created_at,
        is_over=status in _FINAL_STATUSES,
        has_failed=status == "failed",
        is_cancelled=status == "cancelled",
    )


def _moment(value: object) -> datetime | None:
    """A time in Unix seconds, where it can be one of this century's."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return datetime.fromtimestamp(int(value), UTC) if _FIRST <= value < _LAST else None


def _image_model(tools: object) -> str | None:
    return clean_name(_items(tools).image_model)


def _items(value: object) -> Items:
    """The items of a list, also where `MemberReader` has counted them."""
    return value if isinstance(value, Items) else Items.of(value)


def _count_of(data: object) -> int | None:
    """How many items a list has; None for another value, and for one that is not whole."""
    if isinstance(data, Items):
        return data.count if data.is_whole else None
    return len(data) if isinstance(data, list) else None


def _added(before: object, now: object) -> object:
    if isinstance(before, dict) and isinstance(now, dict):
        return added_usage(before, now)
    if _is_count(before):
        return cast(float, before) + cast(float, now) if _is_count(now) else before
    return before if now is None else now


def _is_count(value: object) -> bool:
    """Whether it is a number that may be added: a negative one would hide a part of the others."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= cast(float, value) <= MAX_COUNT
