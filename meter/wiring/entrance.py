"""Builds the front door's entrance."""

from meter.adapters.spool import FileSpool
from meter.config.values import GatewaySettings
from meter.gateway.caller.auth import TokenVerifier
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.limits.admission import Admission
from meter.ports import Clock


def build_admission(settings: GatewaySettings, keys: KeyRing, clock: Clock) -> Admission:
    """The entrance of one instance."""
    return Admission(
        verifier=TokenVerifier(settings.rules, keys, clock),
        limits=settings.admission,
        new_spool=FileSpool,
    )
