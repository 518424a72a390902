"""Large request bodies, streamed and not: CPU, and how long the event loop stands still."""

import asyncio
from collections.abc import Mapping
from statistics import median

from bench.gateway import standing
from bench.gateway.content import (
    SHORT_FRAMES,
    Ask,
    Deployment,
    agent_messages,
    image_messages,
    streamed,
    whole,
)
from bench.gateway.ground import Ground
from bench.gateway.options import Options
from bench.gateway.ours import APP, BACKGROUND, asgi
from bench.gateway.servers import Running
from bench.gateway.turns import Run, Turns, not_measured, over_starts, side_by_side, span, times
from bench.peers import bare_relay, envoy

CONNECTIONS = 8
_OURS, _BARE = "front door", bare_relay.NAME
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "Reads a file.\n" * 20,
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        },
    }
    for number in range(12)
]


def _asks() -> Mapping[str, Ask]:
    agent, image, text = agent_messages(83_000), image_messages(500_000), agent_messages(1_000_000)
    short = Deployment.SHORT
    return {
        "90 KB, a coding agent's": whole(agent, tools=_TOOLS),
        "90 KB, streamed": streamed(short, agent, asks_usage=False, tools=_TOOLS),
        "500 KB, an image": whole(image),
        "500 KB, streamed": streamed(short, image, asks_usage=False),
        "1 MB, text with escapes": whole(text),
        "1 MB, streamed": streamed(short, text, asks_usage=False),
    }


async def bodies(ground: Ground, options: Options) -> list[str]:
    """CPU beside the peers; then, with each callback timed, the longest that the loop stood still."""
    asks = _asks()
    specs = [asgi(_OURS, BACKGROUND), bare_relay.bare_relay(), envoy.envoy()]
    runs = {title: _asked(ask, options) for title, ask in asks.items()}
    found = await over_starts(ground, specs, runs, options)
    longest = await _longest(ground, asks, options)
    return [
        "## Large requests",
        "",
        f"{CONNECTIONS} connections. Streams have {SHORT_FRAMES} frames in a burst; usage is asked "
        "for by the front door. The longest callback of the event loop is measured apart, in CPU "
        "time: so long nothing else is served.",
        "",
        f"| body | {_OURS}, CPU ms | {_BARE}, CPU ms | x {_BARE} | x {envoy.NAME} "
        f"| {_OURS}: longest callback ms | {_BARE}: longest | bytes |",
        f"|{'---|' * 8}",
        *(_row(title, turns, longest[title]) for title, turns in found.items()),
        "",
        *not_measured(next(iter(found.values()))),
    ]


def _asked(ask: Ask, options: Options) -> Run:
    return lambda server: server.load(ask, connections=CONNECTIONS, seconds=options.seconds)


def _row(title: str, turns: Turns, longest: Mapping[str, list[float]]) -> str:
    cells = [_cpu(turns, name) for name in (_OURS, _BARE)]
    cells += [times(turns.ratio(_OURS, base)) for base in (_BARE, envoy.NAME)]
    cells += [f"{max(longest[name]):.1f}" if longest.get(name) else "-" for name in (_OURS, _BARE)]
    return f"| {title} | {' | '.join(cells)} | {'CHANGED' if turns.changed else 'equal'} |"


def _cpu(turns: Turns, name: str) -> str:
    if name not in turns.windows:
        return "-"
    return f"{median(turns.cpu(name)):.2f} {span(turns.cpu(name), 2)}"


async def _longest(
    ground: Ground, asks: Mapping[str, Ask], options: Options
) -> Mapping[str, Mapping[str, list[float]]]:
    """Milliseconds of each window, by body and gateway."""
    wrapped = "bench.gateway.standing:app"
    specs = [
        asgi(_OURS, {**BACKGROUND, standing.VARIABLE: APP}, app=wrapped),
        bare_relay.bare_relay(app=wrapped, settings={standing.VARIABLE: bare_relay.APP}),
    ]
    found: dict[str, dict[str, list[float]]] = {title: {} for title in asks}
    async with side_by_side(ground, specs) as field:
        for title, ask in asks.items():
            for server in field.servers:
                for _ in range(2):
                    await _ask_longest(server)  # forget what was before
                    await server.load(ask, connections=CONNECTIONS, seconds=options.seconds)
                    found[title].setdefault(server.spec.name, []).append(await _ask_longest(server))
    return found


async def _ask_longest(server: Running) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {standing.PATH} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return float(answer.rpartition(b"\r\n\r\n")[2])
