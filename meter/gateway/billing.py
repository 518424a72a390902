"""What Azure bills a call by: its counts, and the deployment and the words that decide its rates."""

from copy import replace
from typing import Any

from msgspec import Struct

from meter.gateway.answer.reading.counts import Output
from meter.gateway.answer.relay import Ending
from meter.gateway.answer.usage import Reading
from meter.gateway.backend import NO_TERMS, Backend, Terms
from meter.gateway.request.asked import Asked as Asked
from meter.gateway.request.operations import Served
from meter.usage import (
    NO_USAGE,
    Context,
    Outcome,
    Tier,
    TokenUsage,
    ToolUsage,
    UsageEvent,
    UsageSource,
)

IMAGE_TOOL = "image_generation"  # a deployment that nobody named

_CHOSEN_PER_CALL = {"priority": Tier.PRIORITY, "flex": Tier.FLEX}
_COUNTED = frozenset({Outcome.SERVED, Outcome.DISCONNECTED})


class Billing(Struct, frozen=True, kw_only=True, gc=False):
    """How the calls of a deployment are billed on a backend, which is None where none was tried.

    `image_deployment` is the public name that the caller gave for the image tool of Responses.
    `spilled_from`: the deployment from which Azure's own spillover has moved the call to a standard one.
    """

    backend: Backend | None
    deployment: str
    image_deployment: str | None = None
    spilled_from: str | None = None
    long_context_tokens: int

    @property
    def terms(self) -> Terms:
        """What the deployment is priced by, whatever the answer says; a spilled call is standard."""
        if self.backend is None:
            return NO_TERMS
        terms = self.backend.terms_of(self.deployment)
        return terms if self.spilled_from is None else replace(terms, tier=Tier.STANDARD)

    def billed(self, reading: Reading, usage: TokenUsage) -> dict[str, Any]:
        """The fields of an event that say what is billed, and at which rates, for an answer with this usage.

        The model is the answer's, else the one that is configured for the deployment. The whole call is
        billed at other rates where the prompt is long.
        """
        terms, service_tier = self.terms, reading.service_tier
        is_long = usage.prompt_tokens > self.long_context_tokens
        return {
            "deployment": self.deployment,
            "model": terms.model if reading.model is None else reading.model,
            "region": terms.region,
            "deployment_type": terms.deployment_type,
            "tier": self._tier(terms.tier, service_tier),
            "service_tier": service_tier,
            "context": Context.LONG if is_long else Context.SHORT,
            "usage": usage,
            "tool_usage": self._tools(reading, terms.deployment_type),
            "usage_raw": reading.usage_raw,
        }

    def applied(self, event: UsageEvent, reading: Reading, usage: TokenUsage) -> UsageEvent:
        """The event with the usage, and at the rates, that an answer of this deployment shows."""
        return replace(event, **self.billed(reading, usage))

    def _tier(self, own: Tier, service_tier: str | None) -> Tier:
        """The tier as billed: of a call that is paid by the token, the answer's own word decides."""
        if service_tier is None or own is Tier.PROVISIONED or self.spilled_from is not None:
            return own
        return _CHOSEN_PER_CALL.get(service_tier.lower(), Tier.STANDARD)

    def _tools(self, reading: Reading, own_type: str | None) -> tuple[ToolUsage, ...]:
        """What the answer's tools used of other models, under the names of these. `own_type` is the type of
        the call's deployment.
        """
        if reading.tool_usage is None:
            return ()
        usage, model, named = reading.image_usage, reading.image_model, self.image_deployment
        if usage == NO_USAGE:
            return ()
        if model is None and named is not None and self.backend is not None:
            model = self.backend.terms_of(named).model
        deployment, tools_type = named or model or IMAGE_TOOL, None
        if self.backend is not None:
            tools_type = self.backend.terms_of(deployment).deployment_type
        tool = ToolUsage(
            deployment=deployment,
            model=model,
            deployment_type=None if tools_type == own_type else tools_type,
            usage=usage,
        )
        return (tool,)


def charged(ending: Ending, served: Served, asked: Asked | None) -> Ending:
    """The ending with all that the call is charged with, also by what it asked for. Charging it again
    changes nothing.

    Operations on stored responses cost nothing, whatever usage their text repeats. Completions
    without details consist of what the operation makes. Lists of other operations than Responses
    may repeat calls of tools that were counted before.
    """
    reading = ending.reading
    if served.is_charged_as_reported and reading.output is None and reading.tool_usage is None:
        return ending  # nearly every call
    if not served.is_charged:
        return ending.free()
    if served.makes_responses:
        return ending
    reading = replace(reading, output=None, tool_usage=None)
    usage, source = ending.usage, ending.usage_source
    if source is UsageSource.REPORTED and reading.reported is not None:
        usage = reading.usage_of(served.output) or NO_USAGE
    is_zero = source is UsageSource.REPORTED and usage == NO_USAGE
    is_unreported = source is UsageSource.MISSING and not reading.reported
    if (is_zero or is_unreported) and ending.outcome in _COUNTED and asked is not None:
        found = _asked_usage(served.output, asked, reading.images)
        usage, source = (usage, source) if found is None else (found, UsageSource.REPORTED)
    return replace(ending, usage=usage, usage_source=source, reading=reading)


def _asked_usage(output: Output, asked: Asked, images: int | None) -> TokenUsage | None:
    """The usage of an answer without tokens; None where it is not known."""
    if output is Output.IMAGE:
        images = asked.images if images is None else images
        return None if images is None else TokenUsage(images=images)
    if output is Output.AUDIO and asked.characters is not None:
        return TokenUsage(characters=asked.characters)
    return None
