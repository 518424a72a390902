"""CPU time per call of the front door as a plain ASGI app, against a bare relay in the same run."""

from statistics import median

from bench.load import Measured
from bench.servers import Ground, compare

CONNECTIONS = 64
CALLS = 6_000
ROUNDS = 3
_APPS = {"front door": "meter.bootstrap:asgi_app", "bare relay": "bench.bare_relay:app"}


async def measure(ground: Ground) -> dict[str, list[Measured]]:
    """Measure both servers in turn."""
    return await compare(
        ground,
        _APPS,
        {"METER_DURABILITY": "background"},
        rounds=ROUNDS,
        connections=CONNECTIONS,
        calls=CALLS,
    )


def report(results: dict[str, list[Measured]]) -> list[str]:
    """The results as a section of Markdown."""
    rows = [
        f"| {name} | {median(m.cpu_ms_a_call for m in runs):.3f} "
        f"| {median(m.calls / m.seconds for m in runs):,.0f} "
        f"| {median(m.p50_ms for m in runs):.1f} | {median(m.p99_ms for m in runs):.1f} |"
        for name, runs in results.items()
    ]
    return [
        "## The front door's work",
        "",
        f"Medians of {ROUNDS} rounds of {CALLS:,} calls over {CONNECTIONS} connections, 2 KB answers, "
        "server pinned to one core, client and backend on another. The front door verifies a JWT, "
        "balances, reads the usage and publishes in the background; the bare relay only relays.",
        "",
        "| server | CPU ms per call | calls/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
