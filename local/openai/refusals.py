"""The errors an account answers with, worded as Azure words them."""

from collections.abc import Mapping

from local.openai.call import JsonObject, Operation, StoredOperation

_OPERATION_IDS: Mapping[Operation | StoredOperation, str] = {
    Operation.CHAT: "ChatCompletions_Create",
    Operation.COMPLETIONS: "Completions_Create",
    Operation.EMBEDDINGS: "Embeddings_Create",
    Operation.RESPONSES: "Responses_Create",
    Operation.COMPACT: "Responses_Compact",
    Operation.INPUT_TOKENS: "Responses_CountInputTokens",
    Operation.IMAGE_GENERATIONS: "ImageGenerations_Create",
    Operation.IMAGE_EDITS: "ImageEdits_Create",
    Operation.TRANSCRIPTIONS: "Transcriptions_Create",
    Operation.TRANSLATIONS: "Translations_Create",
    Operation.SPEECH: "Speech_Create",
    Operation.MODELS: "Models_List",
    StoredOperation.GET: "Responses_Get",
    StoredOperation.DELETE: "Responses_Delete",
    StoredOperation.CANCEL: "Responses_Cancel",
    StoredOperation.INPUT_ITEMS: "Responses_ListInputItems",
}
_MESSAGES = {
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later",
}


_INVALID = "invalid_request_error"


def error_json(
    code: str | None, message: str, *, kind: str | None = None, param: str | None = None
) -> JsonObject:
    """The envelope of every error: `{"error": {"code", "message", "type", "param"}}`."""
    return {"error": {"code": code, "message": message, "type": kind, "param": param}}


def wrong_key() -> JsonObject:
    """401: the `api-key` is missing or another account's."""
    return error_json(
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide "
        "a valid key for an active subscription and use a correct regional API endpoint for your "
        "resource.",
    )


def resource_not_found() -> JsonObject:
    """404: nothing at this address, or the api-version is missing."""
    return error_json("404", "Resource not found")


def deployment_not_found() -> JsonObject:
    """404: the address is right, but the deployment does not exist."""
    return error_json(
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within "
        "the last 5 minutes, please wait a moment and try again.",
    )


def operation_not_supported(operation: Operation, model: str) -> JsonObject:
    """400: the deployment's model does not support this operation."""
    return error_json(
        "OperationNotSupported",
        f"The {operation} operation does not work with the specified model, {model}. Please choose "
        "different model and try again.",
    )


def unreadable_body() -> JsonObject:
    """400: the body is not a JSON object."""
    return error_json(
        None,
        "We could not parse the JSON body of your request. The API expects a JSON payload.",
        kind=_INVALID,
    )


def unreadable_form() -> JsonObject:
    """400: the body is not a well-formed multipart form."""
    return error_json(
        None,
        "We could not parse the multipart form of your request. The API expects a "
        "multipart/form-data payload.",
        kind=_INVALID,
    )


def response_not_found(response_id: str) -> JsonObject:
    """404: the response never existed, was deleted or was not stored."""
    return error_json(None, f"Response with id '{response_id}' not found.", kind=_INVALID)


def previous_response_not_found(response_id: str) -> JsonObject:
    """400: the previous response of a call does not exist."""
    return error_json(
        "previous_response_not_found",
        f"Previous response with id '{response_id}' not found.",
        kind=_INVALID,
        param="previous_response_id",
    )


def not_in_background() -> JsonObject:
    """400: only a background response can be cancelled."""
    return error_json(None, "Cannot cancel a synchronous response.", kind=_INVALID)


def not_streamable() -> JsonObject:
    """400: a cancelled response has no events to stream again."""
    return error_json(None, "Cannot stream a cancelled response.", kind=_INVALID)


def missing_field(name: str) -> JsonObject:
    """400: a mandatory field of the operation is missing."""
    return error_json(None, f"Missing required parameter: '{name}'.", kind=_INVALID)


def stream_options_refused() -> JsonObject:
    """400: the answer of api-versions without `stream_options`."""
    return error_json(
        None,
        "Unrecognized request argument supplied: stream_options",
        kind=_INVALID,
    )


def faulty(
    status: int, operation: Operation | StoredOperation, headers: Mapping[str, str]
) -> JsonObject:
    """The body for the status of a fault."""
    if status == 429:
        seconds = headers.get("retry-after", "10")
        return error_json(
            "429",
            f"Requests to the {_OPERATION_IDS[operation]} Operation under Azure OpenAI API have "
            "exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after "
            f"{seconds} seconds.",
        )
    message = _MESSAGES.get(status, "The request was refused.")
    return error_json(str(status), message)
