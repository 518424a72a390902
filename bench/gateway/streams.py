"""Streams of 100 frames, 10 ms apart, 64 at once: with usage that the caller asked for, and without."""

from bench.gateway.content import FRAME_SECONDS, FRAMES, Ask, Deployment, streamed
from bench.gateway.ground import Ground
from bench.gateway.options import Options
from bench.gateway.ours import ACKNOWLEDGED, BACKGROUND, asgi
from bench.gateway.turns import CONNECTIONS, Run, over_starts, table
from bench.peers.bare_relay import bare_relay
from bench.peers.envoy import envoy

_ASKED = streamed(Deployment.PACED, asks_usage=True)
_INJECTED = streamed(Deployment.PACED, asks_usage=False)
_TITLES = {
    "The caller asks for usage: every frame is the caller's.": _ASKED,
    "The caller does not: the front door asks for it and hides exactly that frame.": _INJECTED,
}


async def streams(ground: Ground, options: Options) -> list[str]:
    """Paced streams beside each other."""
    specs = [
        asgi("front door, background", BACKGROUND),
        asgi("front door, acknowledged", ACKNOWLEDGED),
        *(asgi(f"{tree.label}, background", BACKGROUND, tree=tree) for tree in options.trees),
        bare_relay(),
        envoy(),
        *options.peers,
    ]
    lines = [
        "## Streams",
        "",
        f"{CONNECTIONS} streams at once, {FRAMES} frames of text each, {1000 * FRAME_SECONDS:.0f} ms "
        "apart. The last column compares the callers' bytes with what the backend sends to a caller "
        "that asks the same.",
        "",
    ]
    runs = {title: _paced(ask, options) for title, ask in _TITLES.items()}
    for title, turns in (await over_starts(ground, specs, runs, options)).items():
        lines += [title, "", *table(turns, streams=True)]
    return lines


def _paced(ask: Ask, options: Options) -> Run:
    return lambda server: server.load(ask, connections=CONNECTIONS, seconds=options.seconds)
