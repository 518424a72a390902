"""Decides how an account answers a request: refused as Azure refuses, struck by a fault, or well.

The order of the checks: key (401), address and api-version (404), body (400), deployment (404),
operation and mandatory field (400). Only a call that passed them all takes a fault.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from local.openai import refusals
from local.openai.answers import Answer, Stamp, encode, models_answer, plain_answer, refuse
from local.openai.call import Call, Operation, Target, deployment_of, parse_body, parse_target
from local.openai.faults import NO_FAULT, Fault, FaultQueue
from local.openai.streams import streamed_answer

_MANDATORY = {
    Operation.CHAT: "messages",
    Operation.COMPLETIONS: "prompt",
    Operation.EMBEDDINGS: "input",
    Operation.RESPONSES: "input",
}
_BODILESS = (204, 304)  # RFC 9110 section 6.4.1: a body would be read as the next answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A request as it arrived; header names are lower-case."""

    method: str
    path: str
    api_version: str | None
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """How a request is answered, and what it turned out to ask for.

    `answer` is None where none is given, because the call hangs or its connection is reset.
    """

    answer: Answer | None
    fault: Fault = NO_FAULT
    operation: Operation | None = None
    deployment: str | None = None
    model: str | None = None
    is_streaming: bool = False


class Account:
    """An account's deployments (name to model), its key, and the faults that wait for calls."""

    def __init__(self, deployments: Mapping[str, str], key: str | None) -> None:
        self.faults = FaultQueue()
        self._deployments = dict(deployments)
        self._key = key

    def rule(self, inquiry: Inquiry, stamp: Stamp) -> Ruling:
        """Decides one request; takes a fault from the queue when the call is accepted."""
        target = parse_target(inquiry.method, inquiry.path)
        if not self._is_key_right(inquiry, target):
            return _refused(401, refusals.wrong_key(), target)
        if target is None or not (target.is_v1 or inquiry.api_version):
            return _refused(404, refusals.resource_not_found(), target)
        if target.operation is Operation.MODELS:
            return self._rule_models()
        body = parse_body(inquiry.body)
        if body is None:
            return _refused(400, refusals.unreadable_body(), target)
        deployment = deployment_of(target, body)
        model = self._deployments.get(deployment or "")
        if deployment is None or model is None:
            return _refused(404, refusals.deployment_not_found(), target, deployment=deployment)
        call = Call(operation=target.operation, deployment=deployment, model=model, body=body)
        return self._rule_call(call, stamp)

    def _is_key_right(self, inquiry: Inquiry, target: Target | None) -> bool:
        if self._key is None:
            return True
        given = inquiry.headers.get("api-key", "")
        if not given and target is not None and target.is_v1:
            # The plain OpenAI client, which v1 is for, sends its key as a bearer token.
            given = inquiry.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self._key.encode())

    def _rule_models(self) -> Ruling:
        fault = self.faults.take(None, has_stream_options=False)
        answer = _faulty_answer(Operation.MODELS, fault) or models_answer(self._deployments)
        is_silent = fault.hang or fault.reset
        return Ruling(answer=None if is_silent else answer, fault=fault, operation=Operation.MODELS)

    def _rule_call(self, call: Call, stamp: Stamp) -> Ruling:
        fault = NO_FAULT
        answer = _refuse_body(call)
        if answer is None:
            fault = self.faults.take(call.deployment, has_stream_options=call.has_stream_options)
            answer = _faulty_answer(call.operation, fault) or _good_answer(call, stamp, fault)
        is_silent = fault.hang or fault.reset
        return Ruling(
            answer=None if is_silent else answer,
            fault=fault,
            operation=call.operation,
            deployment=call.deployment,
            model=call.model,
            is_streaming=call.is_streaming,
        )


def _refused(
    status: int, error: dict[str, object], target: Target | None, *, deployment: str | None = None
) -> Ruling:
    return Ruling(
        answer=refuse(status, error),
        operation=target.operation if target else None,
        deployment=deployment or (target.deployment if target else None),
    )


def _refuse_body(call: Call) -> Answer | None:
    embeds = call.model.startswith("text-embedding")
    if embeds != (call.operation is Operation.EMBEDDINGS):
        return refuse(400, refusals.operation_not_supported(call.operation, call.model))
    mandatory = _MANDATORY[call.operation]
    if mandatory not in call.body:
        return refuse(400, refusals.missing_field(mandatory))
    return None


def _faulty_answer(operation: Operation, fault: Fault) -> Answer | None:
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


def _good_answer(call: Call, stamp: Stamp, fault: Fault) -> Answer:
    is_streamable = call.operation is not Operation.EMBEDDINGS
    if call.is_streaming and is_streamable:
        return streamed_answer(
            call, stamp, no_usage=fault.no_usage, with_async_filter=fault.async_filter
        )
    return plain_answer(call, stamp, no_usage=fault.no_usage)
