"""CPU time per call of the front door as a plain ASGI app, against a bare relay in the same run."""

from statistics import median

from bench.load import Measured
from bench.servers import Ground, compare

CONNECTIONS = 64
CALLS = 6_000
ROUNDS = 3
_OFF, _ON = "front door", "front door, telemetry on"
_APP = "meter.bootstrap:asgi_app"
_APPS = {_OFF: _APP, _ON: _APP, "bare relay": "bench.bare_relay:app"}


async def measure(ground: Ground) -> dict[str, list[Measured]]:
    """Measure both servers in turn."""
    return await compare(
        ground,
        _APPS,
        {"METER_DURABILITY": "background"},
        rounds=ROUNDS,
        connections=CONNECTIONS,
        calls=CALLS,
        own={_ON: _telemetry(ground.settings["BACKEND_URL"])},
    )


def _telemetry(receiver: str) -> dict[str, str]:
    """Metrics and spans, to a server that answers 200 to everything."""
    return {"METER_TELEMETRY": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver}


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
        "balances, reads the usage and publishes in the background; the bare relay only relays. With "
        "telemetry on, it also exports metrics and the spans of one call in fifty by OTLP, "
        f"{_added_percent(results):.0f} % of a call's CPU time.",
        "",
        "| server | CPU ms per call | calls/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def _added_percent(results: dict[str, list[Measured]]) -> float:
    """What telemetry adds, by the median of the rounds' ratios."""
    ratios = [
        on.cpu_ms_a_call / off.cpu_ms_a_call
        for off, on in zip(results[_OFF], results[_ON], strict=True)
    ]
    return (median(ratios) - 1) * 100
