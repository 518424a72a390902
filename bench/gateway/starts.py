"""Cold starts: a fresh process until its first answer, compiled code, one core."""

import tempfile
import time
from collections.abc import Sequence
from copy import replace
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.gateway.ground import Ground
from bench.gateway.load import Refused
from bench.gateway.options import Options
from bench.gateway.ours import ACKNOWLEDGED, BACKGROUND, HERE, asgi, worker
from bench.gateway.servers import (
    Running,
    Spec,
    Unavailable,
    end,
    first_answer,
    spawn,
)
from bench.gateway.turns import span, times
from bench.peers.bare_relay import bare_relay
from bench.peers.envoy import envoy
from bench.servers import cpu_seconds
from local.child import free_ports

STARTS = 4


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to the first answer, CPU seconds until then, and the second call's milliseconds."""

    seconds: float
    cpu_seconds: float
    second_ms: float


async def starts(ground: Ground, options: Options) -> list[str]:
    """Start each in turn; the first round compiles and is not counted."""
    trees = [HERE, *options.trees]
    specs = [
        *(worker(f"{t.label} in the runtime, acknowledged", ACKNOWLEDGED, tree=t) for t in trees),
        *(worker(f"{t.label} in the runtime, background", BACKGROUND, tree=t) for t in trees),
        *(asgi(f"{t.label}, ASGI, acknowledged", ACKNOWLEDGED, tree=t) for t in trees),
        bare_relay(),
        envoy(),
    ]
    found: dict[str, list[Start]] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(STARTS + 1):
            for spec in specs:
                if spec.name in missing:
                    continue
                try:
                    start = await _start(ground, spec, Path(compiled))
                except (Unavailable, Refused, OSError, TimeoutError) as exc:
                    missing[spec.name] = f"{type(exc).__name__} {exc}"
                    found.pop(spec.name, None)
                else:
                    if number:
                        found.setdefault(spec.name, []).append(start)
    return [
        "## Cold start",
        "",
        f"A fresh process, compiled code, one core: until the first answer. Medians of {STARTS} "
        "starts, in turn. On Azure the host's own start comes on top.",
        "",
        "| gateway | first answer s [range] | CPU s until then [range] | second call ms "
        "| x the first row, s | x the first row, CPU |",
        f"|{'---|' * 6}",
        *_rows(found),
        "",
        *(f"{name} is missing: {reason[:300]}\n" for name, reason in missing.items()),
    ]


def _rows(found: dict[str, list[Start]]) -> Sequence[str]:
    rows, base = [], next(iter(found.values()), [])
    for name, runs in found.items():
        seconds, cpu = [r.seconds for r in runs], [r.cpu_seconds for r in runs]
        ratios = [
            median(
                getattr(mine, of) / getattr(theirs, of)
                for mine, theirs in zip(runs, base, strict=True)
            )
            for of in ("seconds", "cpu_seconds")
        ]
        rows.append(
            f"| {name} | {median(seconds):.2f} {span(seconds, 2)} | {median(cpu):.2f} {span(cpu, 2)} "
            f"| {median(r.second_ms for r in runs):.1f} "
            f"| {' | '.join(times(ratio) for ratio in ratios)} |"
        )
    return rows


async def _start(ground: Ground, spec: Spec, compiled: Path) -> Start:
    with tempfile.TemporaryDirectory() as name:
        [port] = free_ports(1)
        launch = await spec.launch(ground, port, Path(name))
        launch = replace(launch, settings={**launch.settings, **_compiling_into(compiled)})
        begun = time.perf_counter()
        process = await spawn(launch, Path(name, "output.log"))
        try:
            server = Running(spec=spec, port=port, pid=process.pid, ground=ground)
            await first_answer(server, process)
            answered, cpu = time.perf_counter(), cpu_seconds(process.pid)
            await first_answer(server, process)
            second = time.perf_counter() - answered
            return Start(answered - begun, cpu, 1000 * second)
        finally:
            await end(process)


def _compiling_into(folder: Path) -> dict[str, str]:
    """Has Python keep what it compiles there, also where the environment forbids to write it to the tree:
    each start would compile our modules again, a fourth of its CPU time.
    """
    return {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
