"""The table of operations that are served: operation, method, address and body.

`docs/api.md` documents the same table; a test compares the two.

Deny by default: any other address is answered with 404. The answer names the families of Azure
OpenAI operations that this gateway does not serve.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property

from meter.gateway.answer.reading.counts import Output
from meter.patterns import lazy_pattern


class Operation(StrEnum):
    """The operations that are served, by their name in usage events."""

    CHAT_COMPLETIONS = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    RESPONSES_COMPACT = "responses/compact"
    RESPONSES_INPUT_TOKENS = "responses/input_tokens"
    RESPONSES_GET = "responses/get"
    RESPONSES_DELETE = "responses/delete"
    RESPONSES_CANCEL = "responses/cancel"
    RESPONSES_INPUT_ITEMS = "responses/input_items"
    IMAGES_GENERATIONS = "images/generations"
    IMAGES_EDITS = "images/edits"
    AUDIO_TRANSCRIPTIONS = "audio/transcriptions"
    AUDIO_TRANSLATIONS = "audio/translations"
    AUDIO_SPEECH = "audio/speech"
    MODELS = "models"
    MODELS_GET = "models/get"


class Place(Enum):
    """The prefix of an operation in classic addresses; in v1 it is always `/openai/v1/`."""

    BY_DEPLOYMENT = "/openai/deployments/{deployment}/"
    SHARED = "/openai/"


class Body(Enum):
    """The kind of body that a request has."""

    NONE = "none"
    JSON = "JSON"
    FORM = "form or JSON"


@dataclass(frozen=True, kw_only=True)  # without slots: what follows from a row is worked out once
class Served:
    """One row of the table. `tail` is the address after its prefix; `{id}` is a stored object's id.

    `is_charged` is false for operations that cost nothing, and for those on answers that were charged
    when they were made.
    """

    operation: Operation
    method: str = "POST"
    tail: str
    place: Place = Place.BY_DEPLOYMENT
    body: Body = Body.JSON
    is_charged: bool = True

    @cached_property
    def takes_stream_options(self) -> bool:
        """Whether a streamed call reports usage only when `stream_options.include_usage` asks for it."""
        return self.operation in {Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS}

    @cached_property
    def makes_text_of_text(self) -> bool:
        """Whether its tokens can be estimated from what is sent and answered."""
        return self.makes_responses or self.takes_stream_options

    @cached_property
    def output(self) -> Output:
        """What its answers consist of."""
        if self.operation is Operation.AUDIO_SPEECH:
            return Output.AUDIO
        return Output.IMAGE if self.operation.startswith("images/") else Output.TEXT

    @cached_property
    def may_be_charged_as_asked(self) -> bool:
        """Whether it may be charged by what it asks for: text never is."""
        return self.output is not Output.TEXT

    @cached_property
    def is_charged_as_reported(self) -> bool:
        """Whether its answer's usage is all that it costs, but where it tells of tools."""
        return self.is_charged and self.output is Output.TEXT and not self.makes_responses

    @cached_property
    def makes_responses(self) -> bool:
        """Whether its answer is a new response, which may be stored."""
        return self.operation is Operation.RESPONSES

    @cached_property
    def streams_a_response(self) -> bool:
        """Whether an event stream of it tells of one response, from its creation to its end."""
        return self.operation in {Operation.RESPONSES, Operation.RESPONSES_GET}

    @cached_property
    def streams_media(self) -> bool:
        """Whether an event stream of it tells of images or audio, or of what audio says."""
        return self.answers_in_text or self.output is not Output.TEXT

    @cached_property
    def answers_in_text(self) -> bool:
        """Whether its answer may be text that is no JSON."""
        return self.operation in {Operation.AUDIO_TRANSCRIPTIONS, Operation.AUDIO_TRANSLATIONS}

    @cached_property
    def has_reasoning(self) -> bool:
        """Whether requests and answers may hold reasoning items."""
        return self.operation.startswith("responses")

    @cached_property
    def is_by_id(self) -> bool:
        """Whether it is about an answer that one backend stores."""
        return "{id}" in self.tail

    @cached_property
    def is_about_responses(self) -> bool:
        """Whether it makes, reads or follows what one backend stores or alone can read."""
        return self.has_reasoning or self.is_by_id

    @cached_property
    def may_follow_a_response(self) -> bool:
        """Whether the body may name a stored response that the call builds on."""
        return self.place is Place.SHARED and self.body is Body.JSON


def _of_a_response(operation: Operation, method: str, tail: str) -> Served:
    return Served(
        operation=operation,
        method=method,
        tail=tail,
        place=Place.SHARED,
        body=Body.NONE,
        is_charged=False,
    )


TABLE: tuple[Served, ...] = (
    Served(operation=Operation.CHAT_COMPLETIONS, tail="chat/completions"),
    Served(operation=Operation.COMPLETIONS, tail="completions"),
    Served(operation=Operation.EMBEDDINGS, tail="embeddings"),
    Served(operation=Operation.RESPONSES, tail="responses", place=Place.SHARED),
    Served(operation=Operation.RESPONSES_COMPACT, tail="responses/compact", place=Place.SHARED),
    Served(
        operation=Operation.RESPONSES_INPUT_TOKENS,
        tail="responses/input_tokens",
        place=Place.SHARED,
        is_charged=False,
    ),
    _of_a_response(Operation.RESPONSES_GET, "GET", "responses/{id}"),
    _of_a_response(Operation.RESPONSES_DELETE, "DELETE", "responses/{id}"),
    _of_a_response(Operation.RESPONSES_CANCEL, "POST", "responses/{id}/cancel"),
    _of_a_response(Operation.RESPONSES_INPUT_ITEMS, "GET", "responses/{id}/input_items"),
    Served(operation=Operation.IMAGES_GENERATIONS, tail="images/generations"),
    Served(operation=Operation.IMAGES_EDITS, tail="images/edits", body=Body.FORM),
    Served(operation=Operation.AUDIO_TRANSCRIPTIONS, tail="audio/transcriptions", body=Body.FORM),
    Served(operation=Operation.AUDIO_TRANSLATIONS, tail="audio/translations", body=Body.FORM),
    Served(operation=Operation.AUDIO_SPEECH, tail="audio/speech"),
    _of_a_response(Operation.MODELS, "GET", "models"),
    _of_a_response(Operation.MODELS_GET, "GET", "models/{id}"),
)

_BY_TAIL = {row.tail: tuple(each for each in TABLE if each.tail == row.tail) for row in TABLE}
# Ids of responses hold `resp_`: any other word there would be an operation that is not served.
_STORED = lazy_pattern(
    r"(?P<kind>responses|models)/(?P<id>(?=[^/]*[A-Za-z0-9])[A-Za-z0-9._-]{1,128})(?P<part>/[a-z_]+)?",
    re.ASCII,
)
_RESPONSE_ID = lazy_pattern(r"[a-z]{0,16}resp_.+", re.ASCII)


def rows_of(tail: str) -> tuple[tuple[Served, ...], str | None]:
    """The rows of a tail, and the stored object's id in it; no rows for an unknown tail."""
    if rows := _BY_TAIL.get(tail):
        return rows, None
    stored = _STORED.fullmatch(tail)
    if stored is None or (stored["kind"] == "responses" and not _RESPONSE_ID.match(stored["id"])):
        return (), None
    return _BY_TAIL.get(f"{stored['kind']}/{{id}}{stored['part'] or ''}", ()), stored["id"]


# First segment of an address under /openai/, /openai/v1/ or a deployment, and its public name.
NOT_SERVED: Mapping[str, str] = {
    "anthropic": "The Messages API",
    "assistants": "The Assistants API",
    "batches": "The Batch API",
    "containers": "The Containers API",
    "conversations": "The Conversations API",
    "evals": "The Evaluation API",
    "extensions": "Chat extensions",
    "files": "The Files API",
    "fine_tuning": "Fine-tuning",
    "fine-tunes": "Fine-tuning",
    "messages": "The Messages API",
    "moderations": "The Moderations API",
    "operations": "The asynchronous image API",
    "realtime": "The Realtime API",
    "skills": "The Skills API",
    "threads": "The Assistants API",
    "uploads": "The Files API",
    "vector_stores": "The Vector Stores API",
    "video": "Video generation",
    "videos": "Video generation",
}
