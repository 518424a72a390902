"""Builds what relays answers."""

from meter.adapters.tokenizer import build_estimator
from meter.config.values import GatewaySettings
from meter.gateway.answer.relay import Drains, Relays


def build_relays(settings: GatewaySettings) -> Relays:
    """The relays of one instance."""
    return Relays(
        times=settings.limits.times,
        drains=Drains(settings.limits.drains),
        estimator=build_estimator(),
        max_frame_bytes=settings.max_frame_bytes,
    )
