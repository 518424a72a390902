"""What an error's words say: a deployment that is missing, an option that is refused."""

import pytest

from meter.gateway.answer.stated_error import StatedError

OWN_NAME = "gpt-4o-eu"


@pytest.mark.parametrize(
    "error",
    [
        StatedError(code="DeploymentNotFound"),
        StatedError(code="deployment_not_found"),
        StatedError(code="404", inner={"code": "DeploymentNotFound"}),
        StatedError(message="Could not find an existing deployment to match the model."),
        StatedError(message="The API deployment for this resource does not exist. If"),
        StatedError(message="DeploymentNotFound"),
        StatedError(message="404 DeploymentNotFound: no such deployment."),
        StatedError(message="Error: The API deployment for this resource does not exist."),
        StatedError(code="model_not_found", message="The model `gpt-4o-eu` does not exist."),
        StatedError(code="ModelNotFound", message="No access to GPT-4o-EU."),
        StatedError(message="Deployment gpt-4o-eu was not found"),
        StatedError(message="The requested model 'gpt-4o-eu' could not be found."),
    ],
    ids=repr,
)
def test_a_missing_deployment_is_recognised(error: StatedError) -> None:
    """By a code, by how the message begins, or by the name that the gateway itself sent."""
    assert error.names_no_deployment(OWN_NAME)


@pytest.mark.parametrize(
    "error",
    [
        StatedError(message="Invalid text: 'Could not find an existing deployment'"),
        StatedError(code="NotFound", message="Response resp_1 not found"),
        StatedError(code="model_not_found"),
        StatedError(code="model_not_found", message="The model `gpt-image-1` does not exist."),
        StatedError(code="model_not_found", message="The model `gpt-4o-eu-2` does not exist."),
        StatedError(code="model_not_found", message="x" * 300 + " gpt-4o-eu"),
        StatedError(code="invalid_request", message="gpt-4o-eu has no tools"),
        StatedError(message="Resource not found"),
        StatedError(),
    ],
    ids=repr,
)
def test_what_a_request_names_besides_is_the_callers(error: StatedError) -> None:
    """Other models and tools, and the caller's words repeated in a message."""
    assert not error.names_no_deployment(OWN_NAME)
    assert not error.names_no_deployment("")


@pytest.mark.parametrize("status", [400, 401, 403, 408, 422, 500, 503])
@pytest.mark.parametrize(
    "error",
    [
        StatedError(message="Unrecognized request argument supplied: stream_options"),
        StatedError(message="Unknown parameter: 'Stream_Options.Include_Usage'."),
        StatedError(message="streamOptions is not supported with data_sources"),
        StatedError(message="/stream_options/include_usage: no such property"),
        StatedError(message="Extra inputs are not permitted", param="body.stream_options"),
        StatedError(param="stream_options"),
        StatedError(inner={"target": "IncludeUsage"}),
    ],
    ids=repr,
)
def test_a_refusal_that_names_the_added_option_is_the_gateways(
    error: StatedError, status: int
) -> None:
    """With any status and in any spelling."""
    assert error.refuses_an_option(status)


@pytest.mark.parametrize(
    ("message", "param", "status", "refuses"),
    [
        ("extra fields not permitted", None, 422, True),
        ("Extra inputs are not permitted", None, 400, True),
        ("Additional properties are not allowed", None, 400, True),
        ("Unrecognized request argument", None, 400, True),
        ("extra fields not permitted", None, 500, False),
        ("extra fields not permitted", "body.temperatur", 422, False),
        ("Unrecognized request argument supplied: temperatur", None, 400, False),
        ("Stream is not available in this region", None, 400, False),
        ("This deployment does not support options", None, 400, False),
        (None, None, 400, False),
    ],
)
def test_a_validator_that_names_no_member_may_mean_the_option(
    message: str | None, param: str | None, status: int, *, refuses: bool
) -> None:
    """One that names another member means the caller's own mistake, which is not sent twice."""
    assert StatedError(message=message, param=param).refuses_an_option(status) is refuses
