"""What a backend's answer to the request of `doctor` means."""

import pytest

from meter.doctor.answers import Answered, Fault, NoAnswer, NoToken
from meter.doctor.backends import BackendAnswer, Probed, collapse, judge
from meter.doctor.finding import Status

USER = "Cognitive Services OpenAI User"
LACKS = (
    "The principal `1` lacks the required data action "
    "`Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action`"
)
INVALID = "Access denied due to invalid subscription key or wrong API endpoint."
FIREWALL = "Access denied due to Virtual Network/Firewall rules."
PRIVATE = "Public access is disabled. Please configure private endpoint."
NO_KEYS = "Key based authentication is not permitted on this resource."


def probed(*, has_key: bool = False, resource_id: str | None = None) -> Probed:
    return Probed(backend="eu", deployment="gpt", has_key=has_key, resource_id=resource_id)


@pytest.mark.parametrize(
    ("answer", "status", "found", "role"),
    [
        (Answered(400, "", "Missing required parameter: 'messages'."), "ok", "grants access", None),
        (Answered(400, "OperationNotSupported"), "ok", "grants access", None),
        (Answered(200), "warn", "answers 200", None),
        (Answered(405), "warn", "answers 405", None),
        (Answered(404, "DeploymentNotFound"), "fail", "no deployment 'gpt'", None),
        (Answered(404, "404", "Resource not found"), "fail", "nothing at this address", None),
        (Answered(401, "PermissionDenied", LACKS), "fail", "refuses the identity", USER),
        (Answered(401, "401", "Unauthorized. Access token is missing"), "fail", "identity", USER),
        (Answered(403, "403", "Forbidden"), "fail", "refuses the identity", USER),
        (Answered(403, "403", FIREWALL), "fail", "refuses this network", None),
        (Answered(403, "403", PRIVATE), "fail", "refuses this network", None),
        (Answered(400, "", "Token tenant does not match resource tenant."), "fail", "tenant", None),
        (Answered(429, "429"), "warn", "throttles now (429)", None),
        (Answered(503), "fail", "answers 503", None),
        (Answered(302), "fail", "answers 302", None),
        (NoAnswer(Fault.DNS), "fail", "the name cannot be resolved", None),
        (NoAnswer(Fault.TLS), "fail", "the certificate is not accepted", None),
        (NoAnswer(Fault.REFUSED), "fail", "the connection is refused", None),
        (NoAnswer(Fault.TIMEOUT), "fail", "no answer in time", None),
        (NoToken(), "fail", "no identity can get a token", None),
    ],
)
def test_an_answer_is_told_from_others(
    answer: BackendAnswer, status: str, found: str, role: str | None
) -> None:
    """Each names what is wrong and what to do; the role is named as Azure names it."""
    finding = judge(probed(), answer)

    assert (finding.status, finding.role) == (status, role)
    assert found in finding.found
    assert bool(finding.advice) == (status != "ok")
    assert finding.name == "eu/gpt"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answered(401, "401", INVALID), "refuses the key (401)"),
        (Answered(403, "AuthenticationTypeDisabled", NO_KEYS), "accepts no keys"),
        (Answered(403, "403", "Forbidden"), "refuses the key (403)"),
        (Answered(403, "403", FIREWALL), "refuses this network"),
    ],
)
def test_a_key_lacks_no_role(answer: Answered, found: str) -> None:
    """What to do about a key is another thing."""
    finding = judge(probed(has_key=True), answer)

    assert (finding.status, finding.role) == (Status.FAIL, None)
    assert found in finding.found


def test_the_advice_assigns_the_role_where_it_is_missing() -> None:
    """On the account, where the backends document has its id."""
    finding = judge(probed(resource_id="/subscriptions/1/x"), Answered(401, "PermissionDenied"))

    assert f'--role "{USER}" --scope /subscriptions/1/x' in finding.advice


def test_the_request_has_no_prompt_and_a_deployment_of_its_own() -> None:
    """An empty body: Azure refuses it before a model runs."""
    assert probed().path() == ("/openai/deployments/gpt/chat/completions?api-version=2024-10-21")


def test_a_failure_of_all_deployments_is_one_of_the_backend() -> None:
    """A host that cannot be reached is no fault of twenty deployments."""
    gone = [judge(probed(), NoAnswer(Fault.DNS)) for _ in range(20)]
    (finding,) = collapse(gone, "eu")

    assert (finding.name, finding.found) == (
        "eu",
        "the name cannot be resolved (all 20 deployments)",
    )
    assert finding.advice == gone[0].advice


def test_different_findings_stay_apart() -> None:
    """One deployment may be missing, and the others not."""
    mixed = [judge(probed(), NoAnswer(Fault.DNS)), judge(probed(), Answered(400))]

    assert collapse(mixed, "eu") == mixed
