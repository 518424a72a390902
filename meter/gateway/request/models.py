"""Answers the models list: the deployments that can be called, as clients expect models."""

import json
from collections.abc import Iterable

from meter.errors import ErrorKind, NotServed
from meter.gateway.backend import Backend
from meter.gateway.http import Answer
from meter.gateway.request.operations import Operation
from meter.gateway.request.route import Route


def is_about_models(route: Route) -> bool:
    """Whether the request is for the list or for one model."""
    return route.operation in {Operation.MODELS, Operation.MODELS_GET}


def answer_models(route: Route, backends: Iterable[Backend]) -> Answer:
    """The list or one model. Makes no event. Raises NotServed."""
    names = sorted({name for backend in backends for name in backend.deployments})
    if route.operation is Operation.MODELS:
        return _json_answer({"object": "list", "data": [_model(name) for name in names]})
    if route.stored_id not in names:
        raise NotServed(
            f"The model {route.stored_id!r} does not exist.",
            code="model_not_found",
            kind=ErrorKind.DEPLOYMENT,
        )
    return _json_answer(_model(route.stored_id))


def _json_answer(document: object) -> Answer:
    headers = (("content-type", "application/json"),)
    return Answer(status=200, headers=headers, body=json.dumps(document).encode())


def _model(deployment: str) -> dict[str, object]:
    """A deployment as clients expect a model; its creation time is not known here."""
    return {"id": deployment, "object": "model", "created": 0, "owned_by": "azure-openai"}
