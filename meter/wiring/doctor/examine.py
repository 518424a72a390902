"""Examines what settings name: all checks together, with clients of their own that are closed at the end."""

from collections.abc import Mapping

from meter.adapters.clients import new_identity
from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.identity import ConfiguredCredentials
from meter.adapters.probes.backends import BackendProbe
from meter.adapters.upstream.client import HttpUpstream
from meter.config.environment import read_parts
from meter.config.exports import load_export_settings
from meter.doctor.basics import Offsets, clock_finding
from meter.doctor.checking import diagnose
from meter.doctor.finding import Diagnosis
from meter.ports import Clock
from meter.wiring.doctor.backends import backend_checks
from meter.wiring.doctor.basics import (
    issuer_checks,
    settings_check,
    sign_in_checks,
    version_check,
)
from meter.wiring.doctor.services import blob_checks, hub_checks, table_checks
from meter.wiring.stored.documents import fetch_documents

CONNECT_SECONDS, IDLE_SECONDS = 5.0, 10.0


async def examine(
    environment: Mapping[str, str], *, on_app: bool, clock: Clock | None = None
) -> Diagnosis:
    """Everything that can be said of these settings. `on_app`: they are of the process that asks."""
    clock, dice, offsets = clock or SystemClock(), system_dice(), Offsets()
    documents = await fetch_documents(environment)
    parts, exports = read_parts(environment, documents), load_export_settings(environment)
    client_id = environment.get("AZURE_CLIENT_ID") or None
    upstream = HttpUpstream(
        connect_timeout_seconds=CONNECT_SECONDS, idle_timeout_seconds=IDLE_SECONDS
    )
    credentials = ConfiguredCredentials(
        parts.auth, new_identity(client_id), scope=parts.token_scope, clock=clock
    )
    probe = BackendProbe(upstream, credentials, clock=clock, offsets=offsets)
    try:
        return await diagnose(
            [
                settings_check(parts, exports, environment, documents, on_app=on_app),
                *sign_in_checks(parts, client_id, on_app=on_app),
                *issuer_checks(parts),
                *backend_checks(parts, probe),
                *hub_checks(parts),
                *table_checks(parts, clock=clock, dice=dice, offsets=offsets),
                *blob_checks(parts, exports.container, dice),
                version_check(environment),
            ],
            conclude=lambda: [clock_finding(offsets)],
        )
    finally:
        await upstream.close()
        await credentials.close()
