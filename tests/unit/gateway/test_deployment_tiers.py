"""A call is billed by its deployment's tier, which may be another than its backend's."""

from copy import replace

import pytest

from meter.errors import UpstreamError
from meter.gateway.backend import Deployment
from meter.usage import Tier
from tests.fakes.gateway import FakeAnswer, FakeUpstream, json_answer
from tests.support.gateway import SERVED, Door, backend


async def test_a_deployments_own_tier_is_the_calls() -> None:
    """One account may have provisioned deployments and such that are paid by the token."""
    standard = replace(backend(), deployments={"gpt": Deployment("gpt", tier=Tier.STANDARD)})
    made = Door(FakeUpstream({"a": [json_answer(200, SERVED)]}), backends=[standard])

    await made.call()

    event = made.sink.events[0]
    assert (event.tier, event.spilled_from) == (Tier.STANDARD, None)


@pytest.mark.parametrize(
    ("preferred", "used", "tier", "spilled_from"),
    [
        (Tier.PROVISIONED, Tier.STANDARD, Tier.STANDARD, "a"),
        (Tier.STANDARD, Tier.STANDARD, Tier.STANDARD, None),
        (Tier.PROVISIONED, Tier.PROVISIONED, Tier.PROVISIONED, None),
    ],
)
async def test_a_call_spills_over_by_its_deployments_tiers(
    preferred: Tier, used: Tier, tier: Tier, spilled_from: str | None
) -> None:
    """Whatever tier the backends have for their other deployments."""
    backends = [
        replace(
            backend(name, priority=priority),
            tier=Tier.STANDARD if own is Tier.PROVISIONED else Tier.PROVISIONED,
            deployments={"gpt": Deployment("gpt", tier=own)},
        )
        for name, priority, own in (("a", 1, preferred), ("b", 2, used))
    ]
    answers: dict[str, list[FakeAnswer | UpstreamError]] = {
        "a": [json_answer(429, b"{}")],
        "b": [json_answer(200, SERVED)],
    }
    made = Door(FakeUpstream(answers), backends=backends)

    await made.call()

    event = made.sink.events[0]
    assert (event.tier, event.spilled_from) == (tier, spilled_from)
