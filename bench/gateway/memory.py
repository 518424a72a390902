"""Resident memory over 100,000 calls, and whether it still grows at their end."""

import asyncio
from collections.abc import Sequence

from bench.gateway.content import whole
from bench.gateway.ground import Ground
from bench.gateway.load import Refused
from bench.gateway.options import Options
from bench.gateway.ours import ACKNOWLEDGED, BACKGROUND, asgi, worker
from bench.gateway.servers import Running, Unavailable, running
from bench.gateway.turns import CONNECTIONS
from bench.peers.bare_relay import bare_relay
from bench.peers.envoy import envoy

CALLS = 100_000
EARLY = 20_000
WINDOW_SECONDS = 2.0
LONGEST_SECONDS = 90.0


async def memory(ground: Ground, _options: Options) -> list[str]:
    """Each gateway alone, in a fresh process."""
    specs = [
        worker("front door in the runtime, background", BACKGROUND),
        asgi("front door, ASGI, background", BACKGROUND),
        asgi("front door, ASGI, acknowledged", ACKNOWLEDGED),
        bare_relay(),
        envoy(),
    ]
    rows, missing = [], []
    for spec in specs:
        try:
            async with running(ground, spec, warm=False) as server:
                rows.append(_row(server.spec.name, await _watch(server)))
        except (Unavailable, Refused, OSError, TimeoutError) as exc:
            missing += [f"{spec.name} is missing: {str(exc)[:300]}", ""]
    return [
        "## Memory",
        "",
        f"RSS in MB of a fresh process, {CONNECTIONS} connections, calls of 2 KB answers as fast as it "
        f"answers, at most {CALLS:,} or {LONGEST_SECONDS:.0f} s. Growth is from {EARLY:,} calls to "
        "the end, per 100,000 calls.",
        "",
        f"| gateway | at start | after {EARLY:,} | at the end | calls | growth |",
        f"|{'---|' * 6}",
        *rows,
        "",
        *missing,
    ]


type Sample = tuple[int, float]
"""Calls so far, and the memory then."""


async def _watch(server: Running) -> Sequence[Sample]:
    samples, calls = [(0, server.rss_mb())], 0
    deadline = asyncio.get_running_loop().time() + LONGEST_SECONDS
    while calls < CALLS and asyncio.get_running_loop().time() < deadline:
        window = await server.load(whole(), connections=CONNECTIONS, seconds=WINDOW_SECONDS)
        calls += window.calls
        samples.append((calls, server.rss_mb()))
    return samples


def _row(name: str, samples: Sequence[Sample]) -> str:
    first, last = samples[0], samples[-1]
    early = next((sample for sample in samples if sample[0] >= EARLY), last)
    more = last[0] - early[0]
    growth = f"{(last[1] - early[1]) / more * 100_000:+.1f}" if more else "-"
    return (
        f"| {name} | {first[1]:.1f} | {early[1]:.1f} | {last[1]:.1f} | {last[0]:,} | {growth} MB |"
    )
