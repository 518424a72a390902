"""The bare relay (`bench/peers/relay_app.py`) as a gateway to measure."""

from collections.abc import Mapping
from pathlib import Path

from bench.gateway.ground import Ground
from bench.gateway.servers import Launch, Spec, in_turn, uvicorn
from bench.servers import REPOSITORY

NAME = "bare relay"
APP = "bench.peers.relay_app:app"


def bare_relay(
    *, app: str = APP, tls: bool = False, settings: Mapping[str, str] | None = None
) -> Spec:
    """The least that a gateway in Python does."""

    async def launch(ground: Ground, port: int, _scratch: Path) -> Launch:
        own = {"PYTHONPATH": str(REPOSITORY), **(settings or {})}
        return Launch(arguments=uvicorn(app, port), settings={**ground.settings(tls=tls), **own})

    return Spec(name=NAME, launch=launch, wires=in_turn)
