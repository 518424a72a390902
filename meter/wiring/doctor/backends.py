"""The checks of backends: one per backend, which asks for each of its deployments."""

import asyncio
from collections.abc import Sequence

from meter.adapters.probes.backends import BackendProbe
from meter.config.backends.entry import INVALID_URL
from meter.config.reader import is_reference
from meter.config.values import SettingsParts
from meter.doctor.backends import Probed, collapse, judge
from meter.doctor.checking import Check
from meter.doctor.finding import Area, Examined, Finding
from meter.doctor.unreached import unasked
from meter.gateway.backend import ApiKey, Backend, BackendAuth

MOST_PER_BACKEND = 4


def backend_checks(parts: SettingsParts, probe: BackendProbe) -> list[Check]:
    """A check per backend."""
    return [_check(backend, parts.auth[backend.name], probe) for backend in parts.backends]


def _check(backend: Backend, auth: BackendAuth, probe: BackendProbe) -> Check:
    async def run() -> Sequence[Finding]:
        key = auth.value if isinstance(auth, ApiKey) else None
        is_unresolved = is_reference(key)
        if is_unresolved or key == "" or backend.url == INVALID_URL or not backend.deployments:
            examined = Examined(area=Area.BACKENDS, name=backend.name)
            return [unasked(examined, is_reference=is_unresolved, what="key")]
        turns = asyncio.Semaphore(MOST_PER_BACKEND)

        async def ask(probed: Probed) -> Finding:
            async with turns:
                return judge(probed, await probe.ask(probed, backend.url))

        return collapse(list(await asyncio.gather(*map(ask, _probed(backend, auth)))), backend.name)

    return Check(area=Area.BACKENDS, name=backend.name, run=run)


def _probed(backend: Backend, auth: BackendAuth) -> list[Probed]:
    """Each deployment once: several public names may stand for one, in any case."""
    own = {each.name.lower(): each.name for each in backend.deployments.values()}
    return [
        Probed(
            backend=backend.name,
            deployment=name,
            has_key=isinstance(auth, ApiKey),
            resource_id=backend.resource_id,
        )
        for name in own.values()
    ]
