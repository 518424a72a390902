"""Whole answers of 2 KB: 64, 8 and one connection, TLS to the backends, the runtime, telemetry."""

from collections.abc import Sequence
from statistics import median

from bench.gateway.content import whole
from bench.gateway.ground import Ground
from bench.gateway.options import Options
from bench.gateway.ours import ACKNOWLEDGED, BACKGROUND, asgi, worker
from bench.gateway.servers import Spec
from bench.gateway.turns import ALONE, BASES, CONNECTIONS, Run, Turns, over_starts, table, times
from bench.peers.bare_relay import bare_relay
from bench.peers.envoy import envoy

_BACKGROUND, _ACKNOWLEDGED = "front door, background", "front door, acknowledged"
_WIDTHS = (CONNECTIONS, 8, 1)


async def calls(ground: Ground, options: Options) -> list[str]:
    """Everything on, by number of connections."""
    specs = [
        asgi(_BACKGROUND, BACKGROUND),
        asgi(_ACKNOWLEDGED, ACKNOWLEDGED),
        *(asgi(f"{tree.label}, background", BACKGROUND, tree=tree) for tree in options.trees),
        bare_relay(),
        envoy(),
        *options.peers,
    ]
    lines = [
        "## Whole answers",
        "",
        "The front door verifies a JWT, balances over two backends, reads the usage and publishes an "
        "event: in the background, or acknowledged by the hub before the answer ends. Envoy verifies "
        "the JWT and balances; the bare relay only relays. The last column: the callers' bytes "
        "against the backend's.",
        "",
    ]
    runs = {width: _whole(options, width) for width in _WIDTHS}
    found = await over_starts(ground, specs, runs, options, with_backend=True)
    for connections, turns in found.items():
        lines += [f"Connections: {connections}, each with one call after another.", ""]
        lines += table(turns)
        more = turns.ratio(_ACKNOWLEDGED, _BACKGROUND)
        lines += [f"Acknowledged takes {times(more)} times the CPU of background.", ""]
    return [*lines, *_added(found[1])]


async def with_tls(ground: Ground, options: Options) -> list[str]:
    """TLS between gateway and backends."""
    specs = [asgi(_BACKGROUND, BACKGROUND, tls=True), bare_relay(tls=True), envoy(tls=True)]
    turns = await _at_usual_width(ground, specs, options)
    return [
        "## TLS to the backends",
        "",
        f"The same calls over {CONNECTIONS} connections; gateways reach the backends with TLS.",
        "",
        *table(turns),
    ]


async def in_runtime(ground: Ground, options: Options) -> list[str]:
    """Microsoft's runtime, worker alone, beside the same app on ASGI."""
    asgi_app, alone = "ASGI app", "worker"
    specs = [
        asgi(asgi_app, BACKGROUND),
        worker(alone, BACKGROUND),
        worker("worker, the runtime's INFO lines", BACKGROUND, log_lines=True),
        bare_relay(),
        envoy(),
    ]
    turns = await _at_usual_width(ground, specs, options)
    return [
        "## In Microsoft's runtime",
        "",
        f"The front door in the background mode over {CONNECTIONS} connections: as an ASGI app, and as "
        "a function in azure-functions-runtime. The invocation is made in the worker's process when "
        "its request arrives, which is in the figure; gRPC and the host are not.",
        "",
        *table(turns, bases=(asgi_app, *BASES)),
    ]


async def with_telemetry(ground: Ground, options: Options) -> list[str]:
    """What telemetry adds."""
    off, on = "telemetry off", "telemetry on"
    receiver = {"OTEL_EXPORTER_OTLP_ENDPOINT": ground.urls()[0]}  # answers 200 to everything
    specs = [
        asgi(off, BACKGROUND),
        asgi(on, {**BACKGROUND, "METER_TELEMETRY": "otlp", **receiver}),
    ]
    turns = await _at_usual_width(ground, specs, options)
    return [
        "## Telemetry",
        "",
        f"The front door in the background mode over {CONNECTIONS} connections, without and with "
        "metrics and the spans of one call in fifty, exported by OTLP.",
        "",
        *table(turns, bases=(off,)),
    ]


def _whole(options: Options, connections: int) -> Run:
    return lambda server: server.load(whole(), connections=connections, seconds=options.seconds)


async def _at_usual_width(ground: Ground, specs: Sequence[Spec], options: Options) -> Turns:
    runs = {CONNECTIONS: _whole(options, CONNECTIONS)}
    return (await over_starts(ground, specs, runs, options))[CONNECTIONS]


def _added(turns: Turns) -> list[str]:
    """Latency of one connection above that of the backend alone."""
    if ALONE not in turns.windows:
        return []
    own = median(window.p_ms(50) for window in turns.windows[ALONE])
    added = {
        name: median(window.p_ms(50) for window in windows) - own
        for name, windows in turns.windows.items()
        if name != ALONE
    }
    rows = [
        f"| {name} | {milliseconds:.2f} "
        f"| {' | '.join(times(_ratio(milliseconds, added.get(base))) for base in BASES)} |"
        for name, milliseconds in added.items()
    ]
    return [
        "What a gateway adds to one connection's p50, above the backend alone.",
        "",
        f"| gateway | added p50 ms | {' | '.join(f'x {base}' for base in BASES)} |",
        f"|{'---|' * (2 + len(BASES))}",
        *rows,
        "",
    ]


def _ratio(value: float, base: float | None) -> float | None:
    return value / base if base else None
