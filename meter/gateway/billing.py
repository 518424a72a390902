"""What Azure bills a call by: its counts, and the deployment and the words that decide its rates."""

from copy import replace

from msgspec import Struct

from meter.gateway.answer.reading.counts import Output
from meter.gateway.answer.relay import Ending
from meter.gateway.answer.usage import Reading
from meter.gateway.backend import Backend
from meter.gateway.request.asked import Asked, asked_of
from meter.gateway.request.operations import Served
from meter.gateway.request.prepare import Payload
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


class Charge(Struct):
    """What a call is charged with, by what its answer reports and by what it asked for."""

    served: Served
    asked: Asked | None = None

    async def note(self, body: Payload) -> None:
        """Count what the request asks for, which may be charged: its answer is no error."""
        self.asked = await asked_of(self.served, body)

    def of(self, ending: Ending) -> Ending:
        """The ending with all that the call is charged with; of a charged one the same.

        Operations on stored responses cost nothing, whatever usage their text repeats. Completions
        without details consist of what the operation makes. Lists of other operations than Responses
        may repeat calls of tools that were counted before.
        """
        if not self.served.is_charged:
            return ending.free()
        if self.served.makes_responses:
            return ending
        if self.served.output is Output.TEXT and not ending.reading.has_tools:
            return ending  # nearly every call
        reading = replace(ending.reading, output=None, tool_usage=None)
        usage, source = ending.usage, ending.usage_source
        if source is UsageSource.REPORTED and reading.reported is not None:
            usage = reading.usage_of(self.served.output) or NO_USAGE
        is_zero = source is UsageSource.REPORTED and usage == NO_USAGE
        is_unreported = source is UsageSource.MISSING and not reading.reported
        if (is_zero or is_unreported) and ending.outcome in _COUNTED:
            asked = self._asked_usage(reading.images)
            usage, source = (usage, source) if asked is None else (asked, UsageSource.REPORTED)
        return replace(ending, usage=usage, usage_source=source, reading=reading)

    def _asked_usage(self, images: int | None) -> TokenUsage | None:
        """The usage of an answer without tokens; None where it is not known."""
        output, asked = self.served.output, self.asked
        if output is Output.IMAGE and asked is not None:
            images = asked.images if images is None else images
            return None if images is None else TokenUsage(images=images)
        if output is Output.AUDIO and asked is not None and asked.characters is not None:
            return TokenUsage(characters=asked.characters)
        return None


class Billing(Struct, frozen=True, kw_only=True, gc=False):
    """How the calls of a deployment are billed on a backend, which is None where none was tried.

    `image_deployment` is the public name that the caller gave for the image tool of Responses.
    `is_spilled`: Azure's own spillover has moved the call to a standard deployment.
    """

    backend: Backend | None
    deployment: str
    image_deployment: str | None = None
    is_spilled: bool = False
    long_context_tokens: int

    @property
    def region(self) -> str | None:
        """Where the backend is, if it says so."""
        return None if self.backend is None else self.backend.region

    @property
    def deployment_type(self) -> str | None:
        """The deployment's type on the backend, if that says so."""
        return None if self.backend is None else self.backend.deployment_type_of(self.deployment)

    @property
    def own_tier(self) -> Tier:
        """The tier that the deployment has, whatever the answer says; of a spilled call standard."""
        if self.backend is None or self.is_spilled:
            return Tier.STANDARD
        return self.backend.tier_of(self.deployment)

    def tier(self, service_tier: str | None) -> Tier:
        """The tier as billed: of a call that is paid by the token, the answer's own word decides."""
        own = self.own_tier
        if self.is_spilled or own is Tier.PROVISIONED or service_tier is None:
            return own
        return _CHOSEN_PER_CALL.get(service_tier.lower(), Tier.STANDARD)

    def context(self, usage: TokenUsage) -> Context:
        """Whether the prompt is so long that the whole call is billed at other rates."""
        return Context.LONG if usage.prompt_tokens > self.long_context_tokens else Context.SHORT

    def model(self, reading: Reading) -> str | None:
        """The answer's model, else the one that is configured for the deployment."""
        if reading.model is not None or self.backend is None:
            return reading.model
        return self.backend.model_of(self.deployment)

    def tools(self, reading: Reading) -> tuple[ToolUsage, ...]:
        """What the answer's tools used of other models, under the names of these."""
        usage, model = reading.image_usage, reading.image_model
        if usage == NO_USAGE:
            return ()
        named = self.image_deployment
        if model is None and named is not None and self.backend is not None:
            model = self.backend.model_of(named)
        deployment, own_type = named or model or IMAGE_TOOL, None
        if self.backend is not None:
            own_type = self.backend.deployment_type_of(deployment)
        tool = ToolUsage(
            deployment=deployment,
            model=model,
            deployment_type=None if own_type == self.deployment_type else own_type,
            usage=usage,
        )
        return (tool,)

    def applied(self, event: UsageEvent, reading: Reading, usage: TokenUsage) -> UsageEvent:
        """The event with the usage, and at the rates, that an answer of this deployment shows."""
        return replace(
            event,
            deployment=self.deployment,
            model=self.model(reading),
            region=self.region,
            deployment_type=self.deployment_type,
            tier=self.tier(reading.service_tier),
            service_tier=reading.service_tier,
            context=self.context(usage),
            usage=usage,
            tool_usage=self.tools(reading),
            usage_raw=reading.usage_raw,
        )
