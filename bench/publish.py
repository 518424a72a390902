"""The latency publishing adds to a call: acknowledged by the hub, against a no-op sink."""

from statistics import median

from bench.load import Measured
from bench.servers import Ground, compare

CONNECTIONS = (1, 16)
CALLS = 1_500
ROUNDS = 5
_ACKNOWLEDGED, _UNPUBLISHED = "acknowledged", "not published"
_APPS = {_ACKNOWLEDGED: "meter.bootstrap:asgi_app", _UNPUBLISHED: "bench.unpublished:app"}

type Results = dict[int, dict[str, list[Measured]]]


async def measure(ground: Ground) -> Results:
    """Measure both servers in turn, by number of connections."""
    return {
        connections: await compare(
            ground,
            _APPS,
            {"METER_DURABILITY": "acknowledged"},
            rounds=ROUNDS,
            connections=connections,
            calls=CALLS,
        )
        for connections in CONNECTIONS
    }


def report(results: Results) -> list[str]:
    """The results as a section of Markdown."""
    rows = []
    for connections, servers in results.items():
        p50 = {name: median(m.p50_ms for m in runs) for name, runs in servers.items()}
        p95 = {name: median(m.p95_ms for m in runs) for name, runs in servers.items()}
        rows += [f"| {connections} | {name} | {p50[name]:.1f} | {p95[name]:.1f} |" for name in p50]
        added = [each[_ACKNOWLEDGED] - each[_UNPUBLISHED] for each in (p50, p95)]
        rows.append(f"| {connections} | **added** | **{added[0]:.1f}** | **{added[1]:.1f}** |")
    return [
        "## What publishing adds to a call",
        "",
        f"Medians of {ROUNDS} rounds of {CALLS:,} calls, the servers in turn, each one process on one "
        "core; hub, backend and client on another. `acknowledged` waits for the local Event Hubs "
        "endpoint before the answer ends, over AMQP on loopback; its peer is the same front door "
        "with a no-op sink.",
        "",
        "| connections | server | p50 ms | p95 ms |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
