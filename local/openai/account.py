"""Decides how an account answers a request: with Azure's refusal, with a fault, or with success.

The order of the checks: key (401), address and api-version (404), body (400), deployment (404),
operation, mandatory fields and the previous response (400). Only a call that passes them all takes
a fault. A call by a response's id has no body to check, and takes its fault before the id is looked
up.
"""

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from local.openai import refusals
from local.openai.answers import (
    Answer,
    Stamp,
    completion_answer,
    embeddings_answer,
    encode,
    gzipped,
    models_answer,
    refuse,
)
from local.openai.asked import read_asked
from local.openai.audio import speech_answer, transcript_answer
from local.openai.billing import requested_tier
from local.openai.call import (
    RESPONSE_OPERATIONS,
    Call,
    JsonObject,
    Operation,
    StoredOperation,
    StoredTarget,
    Target,
    Upload,
    deployment_of,
    parse_body,
    parse_target,
)
from local.openai.counting import texts_of
from local.openai.families import can_do
from local.openai.faults import NO_FAULT, Fault, FaultQueue
from local.openai.form import Form, is_form
from local.openai.images import image_answer
from local.openai.stored import ResponseStore, wants_events
from local.openai.streams import streamed_completion

# Each entry may be given under any of its names; a refusal names the first.
_MANDATORY: Mapping[Operation, tuple[tuple[str, ...], ...]] = {
    Operation.CHAT: (("messages",),),
    Operation.COMPLETIONS: (("prompt",),),
    Operation.EMBEDDINGS: (("input",),),
    Operation.RESPONSES: (("input",),),
    Operation.COMPACT: (("input", "previous_response_id"),),
    Operation.INPUT_TOKENS: (("input", "previous_response_id"),),
    Operation.IMAGE_GENERATIONS: (("prompt",),),
    Operation.IMAGE_EDITS: (("prompt",), ("image", "images")),
    Operation.TRANSCRIPTIONS: (("file",),),
    Operation.TRANSLATIONS: (("file",),),
    Operation.SPEECH: (("input",), ("voice",)),
}
_TAKING_FORMS = frozenset({Operation.IMAGE_EDITS, Operation.TRANSCRIPTIONS, Operation.TRANSLATIONS})
_TAKING_JSON = frozenset(Operation) - {Operation.TRANSCRIPTIONS, Operation.TRANSLATIONS}
_IMAGE_DEPLOYMENT = "x-ms-oai-image-generation-deployment"
_BODILESS = (204, 304)  # RFC 9110 section 6.4.1: a body would be read as the next answer

_API_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?|preview|latest|v1", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A request as it arrived; header names are lower-case.

    `form` is the body as a multipart form; None if it is not one, or is malformed.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    form: Form | None = None

    @property
    def api_version(self) -> str | None:
        """The api-version that classic addresses require; None where it is none of Azure's form."""
        version = self.query.get("api-version", "")
        return version if _API_VERSION.fullmatch(version) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """How a request is answered, and the call that it asked for.

    `answer` is None when the call hangs or its connection is reset.
    """

    answer: Answer | None
    fault: Fault = NO_FAULT
    operation: Operation | StoredOperation | None = None
    deployment: str | None = None
    model: str | None = None
    is_streaming: bool = False
    requested_tier: str | None = None


class Account:
    """An account's deployments (name to model), its key, its responses and its queued faults."""

    def __init__(self, deployments: Mapping[str, str], key: str | None) -> None:
        self.faults = FaultQueue()
        self._deployments = dict(deployments)
        self._key = key
        self._responses = ResponseStore()

    def rule(self, inquiry: Inquiry, stamp: Stamp) -> Ruling:
        """Decides one request; takes a fault from the queue when the call is accepted."""
        target = parse_target(inquiry.method, inquiry.path)
        if not self._is_key_right(inquiry, target):
            return _refused(401, refusals.wrong_key(), target)
        if target is None or not (target.is_v1 or inquiry.api_version):
            return _refused(404, refusals.resource_not_found(), target)
        if isinstance(target, StoredTarget):
            return self._rule_stored(target, inquiry, stamp.created)
        if target.operation is Operation.MODELS:
            return self._rule_models()
        return self._rule_target(target, inquiry, stamp)

    def _is_key_right(self, inquiry: Inquiry, target: Target | StoredTarget | None) -> bool:
        if self._key is None:
            return True
        given = inquiry.headers.get("api-key", "")
        if not given and target is not None and target.is_v1:
            # The plain OpenAI client, for which v1 is made, sends its key as a bearer token.
            given = inquiry.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self._key.encode())

    def _rule_stored(self, target: StoredTarget, inquiry: Inquiry, now: int) -> Ruling:
        fault = self.faults.take(None, has_stream_options=False)
        answer = _strike(
            fault,
            target.operation,
            lambda: self._responses.answer(target, inquiry.query, now=now, no_usage=fault.no_usage),
        )
        is_streaming = target.operation is StoredOperation.GET and wants_events(inquiry.query)
        return Ruling(
            answer=answer, fault=fault, operation=target.operation, is_streaming=is_streaming
        )

    def _rule_models(self) -> Ruling:
        fault = self.faults.take(None, has_stream_options=False)
        answer = _strike(fault, Operation.MODELS, lambda: models_answer(self._deployments))
        return Ruling(answer=answer, fault=fault, operation=Operation.MODELS)

    def _rule_target(self, target: Target, inquiry: Inquiry, stamp: Stamp) -> Ruling:
        read = _read_body(target.operation, inquiry)
        if isinstance(read, Answer):
            return Ruling(answer=read, operation=target.operation, deployment=target.deployment)
        body, uploads = read
        deployment = deployment_of(target, body)
        model = self._deployments.get(deployment or "")
        if deployment is None or model is None:
            return _refused(404, refusals.deployment_not_found(), target, deployment=deployment)
        call = Call(
            operation=target.operation,
            deployment=deployment,
            model=model,
            body=body,
            uploads=uploads,
            image_deployment=inquiry.headers.get(_IMAGE_DEPLOYMENT),
        )
        return self._rule_call(call, stamp)

    def _rule_call(self, call: Call, stamp: Stamp) -> Ruling:
        fault = NO_FAULT
        answer = _refuse_body(call) or self._refuse_previous(call)
        if answer is None:
            fault = self.faults.take(call.deployment, has_stream_options=call.has_stream_options)
            asked = read_asked((*texts_of(call.operation, call.body), fault.asks))
            asking = replace(call, asked=asked)
            answer = _strike(fault, call.operation, lambda: self._good_answer(asking, stamp, fault))
        return Ruling(
            answer=answer,
            fault=fault,
            operation=call.operation,
            deployment=call.deployment,
            model=call.model,
            is_streaming=call.is_streaming,
            requested_tier=requested_tier(call),
        )

    def _refuse_previous(self, call: Call) -> Answer | None:
        if call.operation not in RESPONSE_OPERATIONS:
            return None
        missing = self._responses.missing_previous(call)
        return refuse(400, refusals.previous_response_not_found(missing)) if missing else None

    def _good_answer(self, call: Call, stamp: Stamp, fault: Fault) -> Answer:
        no_usage = fault.no_usage
        match call.operation:
            case Operation.CHAT | Operation.COMPLETIONS:
                if call.is_streaming:
                    return streamed_completion(
                        call, stamp, no_usage=no_usage, with_async_filter=fault.async_filter
                    )
                return completion_answer(call, stamp, no_usage=no_usage)
            case Operation.EMBEDDINGS:
                return embeddings_answer(call, no_usage=no_usage)
            case Operation.RESPONSES | Operation.COMPACT | Operation.INPUT_TOKENS:
                return self._responses.create(call, stamp, no_usage=no_usage)
            case Operation.IMAGE_GENERATIONS | Operation.IMAGE_EDITS:
                return image_answer(call, stamp, no_usage=no_usage)
            case Operation.TRANSCRIPTIONS | Operation.TRANSLATIONS:
                return transcript_answer(call, no_usage=no_usage)
            case Operation.SPEECH:
                return speech_answer(call, no_usage=no_usage)
            case Operation.MODELS:
                return models_answer(self._deployments)
            case _:
                assert_never(call.operation)


def _refused(
    status: int,
    error: JsonObject,
    target: Target | StoredTarget | None,
    *,
    deployment: str | None = None,
) -> Ruling:
    in_address = target.deployment if isinstance(target, Target) else None
    return Ruling(
        answer=refuse(status, error),
        operation=target.operation if target else None,
        deployment=deployment or in_address,
    )


def _read_body(
    operation: Operation, inquiry: Inquiry
) -> tuple[JsonObject, tuple[Upload, ...]] | Answer:
    if operation in _TAKING_FORMS and is_form(inquiry.headers.get("content-type", "")):
        form = inquiry.form
        return (form.fields, form.uploads) if form else refuse(400, refusals.unreadable_form())
    if operation not in _TAKING_JSON:
        return refuse(400, refusals.unreadable_form())
    body = parse_body(inquiry.body)
    return (body, ()) if body is not None else refuse(400, refusals.unreadable_body())


def _refuse_body(call: Call) -> Answer | None:
    if not can_do(call.model, call.operation):
        return refuse(400, refusals.operation_not_supported(call.operation, call.model))
    for names in _MANDATORY[call.operation]:
        if not any(call.has(name) for name in names):
            return refuse(400, refusals.missing_field(names[0]))
    return None


def _strike(
    fault: Fault, operation: Operation | StoredOperation, make_answer: Callable[[], Answer]
) -> Answer | None:
    """Apply a fault to an answer, which is built only if it is sent."""
    if fault.hang or fault.reset:
        return None
    answer = _faulty_answer(operation, fault) or make_answer()
    return gzipped(answer) if fault.gzip else answer


def _faulty_answer(operation: Operation | StoredOperation, fault: Fault) -> Answer | None:
    if fault.reject_stream_options:
        return refuse(400, refusals.stream_options_refused())
    if fault.status in _BODILESS:
        return Answer(status=fault.status, pieces=())
    if fault.body is not None:
        raw = fault.body.encode() if isinstance(fault.body, str) else encode(fault.body)
        return Answer(status=fault.status or 200, pieces=(raw,))
    if fault.status is not None:
        return refuse(fault.status, refusals.faulty(fault.status, operation, fault.headers))
    return None
