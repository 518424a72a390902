"""Whether a call costs the same with 1 to 512 connections, 1 to 30 backends, 1 to 10,000 subjects."""

from statistics import median

from bench.gateway.content import whole
from bench.gateway.ground import Ground
from bench.gateway.options import Options
from bench.gateway.ours import ACKNOWLEDGED, BACKGROUND, asgi
from bench.gateway.turns import (
    CONNECTIONS,
    STARTS,
    Run,
    Turns,
    not_measured,
    over_starts,
    side_by_side,
    span,
    times,
)
from bench.peers import bare_relay, envoy

WIDTHS = (1, 8, 64, 256, 512)
BACKENDS = (1, 2, 30)
SUBJECTS = (1, 100, 10_000)
_NAMES = ("front door, background", "front door, acknowledged")


async def scaling(ground: Ground, options: Options) -> list[str]:
    """All three."""
    return [
        "## Scaling",
        "",
        "CPU ms per call [range], and how many times that of the same gateway with "
        f"{CONNECTIONS} connections, 2 backends, 100 subjects.",
        "",
        *await _connections(ground, options),
        *await _backends(ground, options),
        *await _subjects(ground, options),
    ]


async def _connections(ground: Ground, options: Options) -> list[str]:
    specs = [
        asgi(_NAMES[0], BACKGROUND),
        asgi(_NAMES[1], ACKNOWLEDGED),
        bare_relay.bare_relay(),
        envoy.envoy(),
    ]
    runs = {width: _run(width, options) for width in WIDTHS}
    found = await over_starts(ground, specs, runs, options)
    names = [spec.name for spec in specs]
    lines = [f"| connections | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]
    for width, turns in found.items():
        cells = [
            f"{_cell(turns, name)} x{times(_times(turns, found[CONNECTIONS], name))}"
            for name in names
        ]
        lines.append(f"| {width} | {' | '.join(cells)} |")
    said = [
        f"With {width} connections: {line}" if line else line
        for width, turns in found.items()
        for line in not_measured(turns)
    ]
    return [*lines, "", *said]


def _run(width: int, options: Options) -> Run:
    # Long enough for several calls per connection: opening one costs a third of a call.
    seconds = options.seconds * max(1, width // (2 * CONNECTIONS))
    return lambda server: server.load(whole(), connections=width, seconds=seconds)


async def _backends(ground: Ground, options: Options) -> list[str]:
    names = {f"backends: {number}": number for number in BACKENDS}
    specs = [asgi(name, BACKGROUND, backends=number) for name, number in names.items()]
    runs = {CONNECTIONS: _run(CONNECTIONS, options)}
    turns = (await over_starts(ground, specs, runs, options))[CONNECTIONS]
    cells = [f"{_cell(turns, name)} x{times(turns.ratio(name, 'backends: 2'))}" for name in names]
    return _side_by_side(list(names), cells)


async def _subjects(ground: Ground, options: Options) -> list[str]:
    tokens = {number: ground.tokens_of(number) for number in SUBJECTS}
    found: dict[int, list[float]] = {number: [] for number in SUBJECTS}
    async with side_by_side(ground, [asgi(_NAMES[0], BACKGROUND)]) as field:
        for server in field.servers:
            # Each token's signature is verified once; then it is known.
            every, known = tokens[SUBJECTS[-1]], 0
            while known < len(every):
                part = every[known:] + every[:known]
                window = await server.load(
                    whole(), connections=CONNECTIONS, seconds=options.seconds, tokens=part
                )
                known += window.calls
            for _ in range(STARTS * options.rounds):  # of one process, which knows all of them
                for number, some in tokens.items():
                    window = await server.load(
                        whole(), connections=CONNECTIONS, seconds=options.seconds, tokens=some
                    )
                    found[number].append(window.cpu_ms)
    cells = [
        f"{median(each):.3f} {span(each, 3)} x{median(each) / median(found[100]):.2f}"
        for each in found.values()
        if each
    ]
    return _side_by_side([f"subjects: {number:,}" for number in SUBJECTS], cells)


def _side_by_side(heads: list[str], cells: list[str]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [*lines, f"| {' | '.join(cells)} |", ""]


def _cell(turns: Turns, name: str) -> str:
    if name not in turns.windows:
        return "-"
    return f"{median(turns.cpu(name)):.3f} {span(turns.cpu(name), 3)}"


def _times(turns: Turns, base: Turns, name: str) -> float | None:
    if name not in turns.windows or name not in base.windows:
        return None
    return median(turns.cpu(name)) / median(base.cpu(name))
