"""Gateways beside each other: loaded in turn, round by round, and shown with ranges and ratios."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.gateway.ground import Ground
from bench.gateway.load import Refused, Window
from bench.gateway.options import Options
from bench.gateway.servers import Launch, Running, Spec, Unavailable, in_turn, running
from bench.peers import bare_relay, envoy

CONNECTIONS = 64
ALONE = "backend alone"
STARTS = 3
BASES = (bare_relay.NAME, envoy.NAME)

type Run = Callable[[Running], Awaitable[Window]]


@dataclass(slots=True)
class Field:
    """Gateways that run at once on one core. `missing` says which could not, and why."""

    servers: list[Running]
    missing: dict[str, str]

    def add_backend(self, ground: Ground) -> None:
        """Have callers go straight to the backend, too: how fast backend and load are by themselves."""
        spec = Spec(name=ALONE, launch=_never, wires=in_turn)
        port, pid = ground.ports[0], ground.backend_pid
        self.servers.append(Running(spec=spec, port=port, pid=pid, ground=ground))

    async def by_turns(self, run: Run, *, rounds: int) -> "Turns":
        """Measure each in turn, so many times. One that fails is left out from then on."""
        turns = Turns(missing=self.missing)
        written = {server.spec.name: len(server.log_lines()) for server in self.servers}
        failed = set()
        for _ in range(rounds):
            for server in self.servers:
                name = server.spec.name
                if name in failed:
                    continue
                try:
                    turns.windows.setdefault(name, []).append(await run(server))
                except (Refused, OSError, TimeoutError) as exc:
                    failed.add(name)
                    turns.windows.pop(name, None)
                    turns.missing = {**turns.missing, name: f"{type(exc).__name__} {exc}"}
        for server in self.servers:
            if lines := server.log_lines()[written[server.spec.name] :]:
                turns.said[server.spec.name] = f"{len(lines):,} log lines, the last: {lines[-1]}"
        return turns


@asynccontextmanager
async def side_by_side(ground: Ground, specs: Sequence[Spec]) -> AsyncIterator[Field]:
    """Start all that can be had."""
    async with AsyncExitStack() as stack:
        field = Field([], {})
        for spec in specs:
            try:
                field.servers.append(await stack.enter_async_context(running(ground, spec)))
            except Unavailable as exc:
                field.missing[spec.name] = str(exc)
                print(f"  {spec.name}: {exc}", file=sys.stderr, flush=True)
        yield field


async def over_starts[K](
    ground: Ground,
    specs: Sequence[Spec],
    runs: Mapping[K, Run],
    options: Options,
    *,
    with_backend: bool = False,
) -> "Mapping[K, Turns]":
    """Each of the runs by turns, with each of `STARTS` starts of all gateways.

    Two processes of the same code take up to 15 % more or less CPU time than each other for as long as they
    run, from where their memory happens to lie: more rounds do not show that.
    """
    found = {title: Turns() for title in runs}
    missing: set[str] = set()
    for _ in range(STARTS):
        had = [spec for spec in specs if spec.name not in missing]
        async with side_by_side(ground, had) as field:
            missing |= field.missing.keys()
            if with_backend:
                field.add_backend(ground)
            for title, run in runs.items():
                found[title].add(await field.by_turns(run, rounds=options.rounds))
    return found


@dataclass(slots=True)
class Turns:
    """Windows by gateway, one per round, in the rounds' order."""

    windows: dict[str, list[Window]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def add(self, later: "Turns") -> None:
        """Add the rounds of another start; a gateway that is missing in one is missing."""
        self.missing = {**self.missing, **later.missing}
        for name, said in later.said.items():
            self.said[name] = f"{self.said[name]}; then {said}" if name in self.said else said
        for name, windows in later.windows.items():
            self.windows.setdefault(name, []).extend(windows)
        for name in self.missing:
            self.windows.pop(name, None)

    def cpu(self, name: str) -> list[float]:
        """CPU milliseconds per call of each round."""
        return [window.cpu_ms for window in self.windows[name]]

    def ratio(self, name: str, base: str) -> float | None:
        """How many times the CPU of `base` a gateway needs: the median of the rounds' ratios."""
        if name not in self.windows or base not in self.windows:
            return None
        pairs = zip(self.cpu(name), self.cpu(base), strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    @property
    def changed(self) -> list[str]:
        """Gateways whose callers did not get the backend's bytes."""
        return [name for name, runs in self.windows.items() if sum(w.changed for w in runs)]


def table(turns: Turns, *, bases: Sequence[str] = BASES, streams: bool = False) -> list[str]:
    """A row for each gateway: CPU with its range, ratios to the bases, rate, latency, bytes."""
    what = "stream" if streams else "call"
    heads = [f"CPU ms per {what} [range]", *(f"x {base}" for base in bases), f"{what}s/s"]
    heads += ["first byte p50 ms" if streams else "p50 ms", "p99 ms", "bytes"]
    rows = [f"| gateway | {' | '.join(heads)} |", f"|{'---|' * (len(heads) + 1)}"]
    for name, windows in turns.windows.items():
        cells = [f"{median(turns.cpu(name)):.3f} {span(turns.cpu(name), 3)}"]
        cells += [times(turns.ratio(name, base)) for base in bases]
        cells.append(f"{median(w.calls / w.seconds for w in windows):,.0f}")
        firsts = [w.first_bytes[len(w.first_bytes) // 2] * 1000 for w in windows]
        middle = firsts if streams else [w.p_ms(50) for w in windows]
        cells += [f"{median(middle):.2f}", f"{median(w.p_ms(99) for w in windows):.1f}"]
        changed = sum(window.changed for window in windows)
        cells.append(f"{changed:,} CHANGED" if changed else "equal")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return [*rows, "", *not_measured(turns)]


def not_measured(turns: Turns) -> list[str]:
    """What the tables lack, and what was said meanwhile: an event that missed the hub costs more."""
    lines = [f"{name} is missing: {_line(reason)}" for name, reason in turns.missing.items()]
    lines += [f"{name} wrote {_line(said)}" for name, said in turns.said.items()]
    return [part for line in lines for part in (line, "")]


def times(ratio: float | None) -> str:
    """A ratio as a cell."""
    return "-" if ratio is None else f"{ratio:.2f}"


def span(values: Sequence[float], digits: int) -> str:
    """The range of some values."""
    return f"[{min(values):.{digits}f}–{max(values):.{digits}f}]"


async def _never(_ground: Ground, _port: int, _scratch: Path) -> Launch:
    raise Unavailable("it runs already")


def _line(reason: str) -> str:
    return " ".join(reason.split())[:300]
