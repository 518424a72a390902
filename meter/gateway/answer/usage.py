"""Reads an answer's token usage, model and id.

Sources: Azure OpenAI REST reference (chat, completions, embeddings, images, audio) and Responses
API reference. Answers are hostile input: an invalid count makes the usage `missing`, an invalid
share of one is dropped, and nothing here raises.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from meter.gateway.answer.members import decoded_json, read_members
from meter.usage import NO_USAGE, TokenUsage, is_writable

MAX_COUNT = 10**11  # a tenth of the aggregator's limit, since some counts are sums
MAX_MODEL_CHARS = 128
MAX_PARSED_BYTES = 1_048_576  # parsing more would delay every other call

_ID = re.compile(rb'"id"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9._-]{1,128})"')
_HEAD_BYTES = 4_096
_RESPONSE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_FINAL_STATUSES = (
    "completed",
    "incomplete",
    "failed",
    "cancelled",
)  # `in` takes values of any kind
_FIRST, _LAST = 946_684_800, 4_102_444_800  # the years 2000 to 2099
_SECONDS_TEXT = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,20})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundResponse:
    """A response that runs in the background, as an answer shows it.

    `created_at` is the same in every answer about it; `is_over` says that its usage is final.
    """

    id: str
    created_at: datetime
    is_over: bool
    has_failed: bool = False
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer's raw usage object and model, and the background response it is about, if any.

    `has_failed`: it is a response that has failed.
    """

    usage_raw: Mapping[str, object] | None = None
    model: str | None = None
    background: BackgroundResponse | None = None
    has_failed: bool = False

    @property
    def usage(self) -> TokenUsage | None:
        """The counts; None when there is no usage, or its counts are invalid."""
        return None if self.usage_raw is None else read_usage(self.usage_raw)


NOTHING_READ = Reading()


def read_usage(raw: Mapping[str, object]) -> TokenUsage | None:
    """Translate a usage object of any AOAI API. An explicit 0 is a count, an absent one is 0.

    None when it has neither tokens nor seconds, or one of these is negative, absurd or no number. A
    share of the prompt or the completion that makes no sense is 0: the counts hold without it.
    """
    try:
        prompt = _first(raw, "prompt_tokens", "input_tokens")
        completion = _first(raw, "completion_tokens", "output_tokens")
        total = _tokens(raw.get("total_tokens"))
        seconds = _seconds(raw)
    except ValueError:
        return None
    if all(count is None for count in (prompt, completion, seconds, total)):
        return None
    inside_prompt = _details(
        raw, "prompt_tokens_details", "input_tokens_details", "input_token_details"
    )
    inside_completion = _details(
        raw, "completion_tokens_details", "output_tokens_details", "output_token_details"
    )
    return TokenUsage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
        cached_tokens=_share(inside_prompt, "cached_tokens"),
        reasoning_tokens=_share(inside_completion, "reasoning_tokens"),
        audio_tokens=_sum_of("audio_tokens", inside_prompt, inside_completion),
        image_tokens=_sum_of("image_tokens", inside_prompt, inside_completion),
        seconds=seconds or 0,
    )


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type is JSON's own, or has the suffix `+json` (RFC 6839)."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in {"application/json", "text/json"} or kind.endswith("+json")


def read_answer(body: bytes) -> Reading:
    """Read a whole JSON answer; a long one is not parsed, only looked through."""
    is_long = len(body) > MAX_PARSED_BYTES
    return read_document(read_members(body) if is_long else json_object(body) or {})


def read_document(document: Mapping[str, object]) -> Reading:
    """Read an answer's JSON object, or those members of it that `MemberReader` keeps.

    Whisper reports the length of its audio as `duration`, beside the text and without usage.
    """
    usage, duration = document.get("usage"), document.get("duration")
    raw = cast(Mapping[str, object], usage) if isinstance(usage, dict) else None
    if duration is not None and (raw is None or read_usage(raw) is None):
        raw = {"duration": duration}
    return Reading(
        usage_raw=raw,
        model=model_name(document.get("model")),
        background=_background(document),
        has_failed=document.get("object") == "response" and document.get("status") == "failed",
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
    """The sum of the usage objects of two images of one answer."""
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
    is_name = isinstance(name, str) and 0 < len(name) <= MAX_MODEL_CHARS and is_writable(name)
    return str(name) if is_name else None


def _background(document: Mapping[str, object]) -> BackgroundResponse | None:
    response_id, status = document.get("id"), document.get("status")
    created_at = _moment(document.get("created_at"))
    is_named = isinstance(response_id, str) and _RESPONSE_ID.fullmatch(response_id) is not None
    if document.get("background") is not True or not is_named or created_at is None:
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


def _first(raw: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        if (count := _tokens(raw.get(name))) is not None:
            return count
    return None


def _tokens(value: object) -> int | None:
    """A count of whole tokens. Raises ValueError."""
    count = _count(value)
    if count is not None and count != value:
        raise ValueError(value)
    return count


def _seconds(raw: Mapping[str, object]) -> int | None:
    """Seconds of audio, begun ones as whole ones; some versions write `duration` as text."""
    seconds = _count(raw.get("seconds"))
    duration = raw.get("duration")
    if isinstance(duration, str) and _SECONDS_TEXT.fullmatch(duration):
        duration = float(duration)
    return _count(duration) if seconds is None else seconds


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if not 0 <= value <= MAX_COUNT:  # also refuses NaN
        raise ValueError(value)
    return math.ceil(value)


def _details(raw: Mapping[str, object], *names: str) -> Mapping[str, object]:
    for name in names:
        if isinstance(details := raw.get(name), dict):
            return cast(Mapping[str, object], details)
    return {}


def _share(details: Mapping[str, object], name: str) -> int:
    try:
        return _tokens(details.get(name)) or 0
    except ValueError:
        return 0


def _sum_of(name: str, *details: Mapping[str, object]) -> int:
    return sum(_share(part, name) for part in details)


def _added(before: object, now: object) -> object:
    if isinstance(before, dict) and isinstance(now, dict):
        return added_usage(before, now)
    if _is_number(before) and _is_number(now):
        return cast(float, before) + cast(float, now)
    return before if now is None else now


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
