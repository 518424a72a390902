"""Judges a backend's answer to the request that `doctor` sends for each of its deployments.

The request is a chat completion with an empty JSON object as its body. Azure refuses it with 400 once
the credentials and the deployment are found to be right, whatever model that has: no model runs and no
token is billed. It counts as one of the requests per minute of the deployment.
"""

from copy import replace
from dataclasses import dataclass

from meter.doctor.answers import Answered, NoAnswer, NoToken
from meter.doctor.finding import Area, Examined, Finding, Status
from meter.doctor.unreached import OTHER_NETWORK, unanswered

OPENAI_USER = "Cognitive Services OpenAI User"
API_VERSION = "2024-10-21"
BODY = b"{}"
_NETWORK = ("public access is disabled", "private endpoint", "virtual network", "firewall")
_NO_KEYS = ("authenticationtypedisabled", "key based authentication")
_TENANT = "tenant"

type BackendAnswer = Answered | NoAnswer | NoToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One deployment of a backend, as it was asked for."""

    backend: str
    deployment: str  # the account's own name for it
    has_key: bool  # else the identity
    resource_id: str | None = None

    @property
    def examined(self) -> Examined:
        """As findings name it."""
        return Examined(area=Area.BACKENDS, name=f"{self.backend}/{self.deployment}")

    def path(self) -> str:
        """Where the request goes."""
        tail = f"chat/completions?api-version={API_VERSION}"
        return f"/openai/deployments/{self.deployment}/{tail}"


def judge(probed: Probed, answer: BackendAnswer) -> Finding:
    """What the answer says about the deployment, and about us."""
    examined = probed.examined
    match answer:
        case NoToken() | NoAnswer():
            return unanswered(examined, answer)
        case Answered(status=status) if status < 300 or status == 405:
            found = f"answers {status}, and Azure OpenAI would refuse an empty chat with 400"
            return examined.warning(found, "check the backend's url: the account's own endpoint")
        case Answered(status=status) if status in {400, 413, 415, 422}:
            if status == 400 and _TENANT in answer.message.lower():
                return _credentials(probed, answer)
            return examined.ok("grants access, has the deployment")
        case Answered(status=401):
            return _credentials(probed, answer)
        case Answered(status=403):
            return _forbidden(probed, answer)
        case Answered(status=404):
            return _not_found(probed, answer)
        case Answered(status=408 | 429):
            found = f"grants access, but throttles now ({answer.status})"
            return examined.warning(found, "raise its quota if this persists")
        case Answered():
            found = f"answers {answer.status}{_code(answer)}"
            return examined.failure(found, "check the address, and the service's health")


def collapse(findings: list[Finding], backend: str) -> list[Finding]:
    """One finding instead of the same failure of each deployment: what is wrong is the backend."""
    first = findings[0]
    is_one = len(findings) > 1 and first.status is Status.FAIL
    if is_one and all((each.found, each.role) == (first.found, first.role) for each in findings):
        found = f"{first.found} (all {len(findings)} deployments)"
        return [replace(first, name=backend, found=found)]
    return findings


def _credentials(probed: Probed, answer: Answered) -> Finding:
    if probed.has_key:
        found = f"refuses the key ({answer.status})"
        return probed.examined.failure(found, "store the account's current key in its setting")
    if _TENANT in answer.message.lower():
        found = f"refuses the identity, which is from another tenant ({answer.status})"
        advice = "use an identity of the account's tenant, or a key"
        return probed.examined.failure(found, advice)
    scope = probed.resource_id or "ACCOUNT_RESOURCE_ID"
    found = f"refuses the identity{_code(answer)} ({answer.status})"
    return probed.examined.lacks(OPENAI_USER, scope, found)


def _forbidden(probed: Probed, answer: Answered) -> Finding:
    text = f"{answer.code} {answer.message}".lower()
    if any(word in text for word in _NETWORK):
        return probed.examined.failure(
            "refuses this network: public access is off, or limited (403)", OTHER_NETWORK
        )
    if any(word in text for word in _NO_KEYS):
        found = "accepts no keys: local authentication is off (403)"
        return probed.examined.failure(found, 'use "auth": {"kind": "managed-identity"}')
    return _credentials(probed, answer)


def _not_found(probed: Probed, answer: Answered) -> Finding:
    if "deployment" in f"{answer.code} {answer.message}".lower():
        found = f"grants access, has no deployment {probed.deployment!r} (404)"
        advice = "create the deployment, or correct its name in METER_BACKENDS"
        return probed.examined.failure(found, advice)
    found = f"has nothing at this address{_code(answer)} (404)"
    return probed.examined.failure(found, "check the backend's url: the account's own endpoint")


def _code(answer: Answered) -> str:
    return f" {answer.code}" if answer.code and answer.code != str(answer.status) else ""
