"""Who may enter, and how much of the instance each may have: slots, and bytes of bodies."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from meter.errors import Forbidden, Unauthenticated
from meter.gateway.caller.auth import TokenVerifier, log_refusal, token_in
from meter.gateway.http import Arrival, Request
from meter.gateway.limits.holds import Holds
from meter.gateway.limits.intake import BodyLimits, Intake
from meter.gateway.limits.quota import Holding, Quota
from meter.gateway.limits.turns import Turns
from meter.ports import Headers, Spool
from meter.usage import Principal


class AdmissionLimits(Struct, frozen=True, kw_only=True):
    """Bounds on one instance's calls and their bodies, and on one subject's share of both."""

    max_concurrent_calls: int
    body_budget_bytes: int
    subject_share_percent: int
    bodies: BodyLimits


@dataclass(slots=True, kw_only=True)
class Admission:
    """The entrance of one instance."""

    verifier: TokenVerifier
    limits: AdmissionLimits
    new_spool: Callable[[], Spool]
    slots: Quota = field(init=False)
    body_bytes: Quota = field(init=False)
    turns: Turns = field(default_factory=Turns)

    def __post_init__(self) -> None:
        percent = self.limits.subject_share_percent
        self.slots = Quota(self.limits.max_concurrent_calls, percent)
        self.body_bytes = Quota(self.limits.body_budget_bytes, percent)

    def limit(self, limits: AdmissionLimits) -> None:
        """Apply other bounds to what enters from now on; those on single bodies stay."""
        percent = limits.subject_share_percent
        self.slots.resize(limits.max_concurrent_calls, percent)
        self.body_bytes.resize(limits.body_budget_bytes, percent)

    def known(self, request: Request, now: datetime) -> Principal | None:
        """The caller, if its token is known and valid now; None where `identify` must look."""
        return self.verifier.known(request.headers, request.named, now)

    async def identify(self, headers: Headers, event_id: UUID) -> Principal:
        """The caller. Raises Unauthenticated, Forbidden or KeysUnavailable."""
        try:
            return await self.verifier.verify(token_in(headers))
        except (Unauthenticated, Forbidden) as exc:
            log_refusal(exc, event_id)
            raise

    def enter(self, arrival: Arrival) -> Intake:
        """Take a slot until the intake's `holds` are closed. Raises Overloaded.

        What the call's body takes through the intake is given back then, too.
        """
        subject = arrival.principal.subject
        slot, body = Holding(self.slots, subject), Holding(self.body_bytes, subject)
        if (refusal := slot.grow(1)) is not None:
            raise refusal.error(
                share="You have as many calls under way as one caller may have on this instance.",
                full="This instance is at its limit of concurrent calls.",
            )
        return Intake(
            request=arrival.request,
            limits=self.limits.bodies,
            turns=self.turns,
            new_spool=self.new_spool,
            holds=Holds(slot, body),
        )
