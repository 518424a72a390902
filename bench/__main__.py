"""`python -m bench`: runs the benchmarks, prints the results and writes bench/results.md.

A part that fails is named in the results and does not stop the others.
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from bench import aggregator, files, invoice, report
from bench.gateway.bodies import bodies
from bench.gateway.calls import calls, in_runtime, with_telemetry, with_tls
from bench.gateway.ground import Ground, ground
from bench.gateway.memory import memory
from bench.gateway.options import Options
from bench.gateway.ours import Tree
from bench.gateway.scaling import scaling
from bench.gateway.starts import starts
from bench.gateway.streams import streams
from bench.peers.known import PEERS
from bench.servers import REPOSITORY

RESULTS = Path(__file__).parent / "results.md"
QUICK = Options(rounds=1, seconds=0.6)
USUAL = Options(rounds=2, seconds=1.0)
_PACKAGES = ("uvicorn", "httptools", "starlette", "msgspec", "aiohttp", "pyjwt", "cryptography")
_SDKS = ("azure-eventhub", "azure-data-tables", "azure-functions-runtime")

type Part = Callable[[], Awaitable[Sequence[str]]]

GATEWAY: Mapping[str, Callable[[Ground, Options], Awaitable[list[str]]]] = {
    "calls": calls,
    "streams": streams,
    "tls": with_tls,
    "bodies": bodies,
    "runtime": in_runtime,
    "starts": starts,
    "memory": memory,
    "scaling": scaling,
    "telemetry": with_telemetry,
}


async def _aggregator() -> list[str]:
    return aggregator.report(await aggregator.measure())


async def _report() -> list[str]:
    return report.report(await report.measure())


async def _files() -> list[str]:
    return files.report(await files.measure())


async def _invoice() -> list[str]:
    return invoice.report(await invoice.measure())


OTHERS: Mapping[str, Part] = {
    "aggregator": _aggregator,
    "reports": _report,
    "files": _files,
    "invoice": _invoice,
}
NAMES = (*GATEWAY, *OTHERS)


def main() -> int:
    """Run what is asked for; 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", default="", help=f"parts, with commas between, printed alone: {', '.join(NAMES)}"
    )
    parser.add_argument("--peers", default="", help=f"more gateways: {', '.join(PEERS)}")
    parser.add_argument("--tree", default="", help="another work tree's front door, too")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    chosen = parser.parse_args()
    only, peers = _names(chosen.only, NAMES, parser), _names(chosen.peers, PEERS, parser)
    options = QUICK if chosen.quick else USUAL
    trees = [Tree(label="other tree", path=Path(chosen.tree).resolve())] if chosen.tree else []
    run = Run(
        Options(
            rounds=options.rounds,
            seconds=options.seconds,
            trees=trees,
            peers=[PEERS[name]() for name in peers],
        )
    )
    lines = [*_about(), *asyncio.run(run.parts(only or NAMES)), *run.took()]
    text = "\n".join(lines)
    if not only and not chosen.quick:
        RESULTS.write_text(text)
    print(text)
    return 1 if run.failed else 0


class Run:
    """One run of some parts."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seconds: dict[str, float] = {}
        self.failed: list[str] = []

    async def parts(self, names: Sequence[str]) -> list[str]:
        """The sections of the results."""
        lines: list[str] = []
        of_gateway = [name for name in GATEWAY if name in names]
        if of_gateway:
            async with ground() as shared:
                for name in of_gateway:
                    part = GATEWAY[name]
                    lines += await self._part(name, lambda part=part: part(shared, self._options))  # type: ignore[misc]
        for name in (name for name in OTHERS if name in names):
            lines += await self._part(name, OTHERS[name])
        return lines

    async def _part(self, name: str, part: Part) -> Sequence[str]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        try:
            return await part()
        except Exception as exc:
            traceback.print_exc()
            self.failed.append(name)
            return [f"**The part {name} failed**: {type(exc).__name__}: {exc}", ""]
        finally:
            self._seconds[name] = time.perf_counter() - begun

    def took(self) -> list[str]:
        """How long the parts took, and the machine's load at the end."""
        parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self._seconds.items())
        in_all = sum(self._seconds.values())
        return [f"Load average at the end: {_load()}. Seconds: {parts}; {in_all:.0f} in all.", ""]


def _about() -> list[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in (*_PACKAGES, *_SDKS))
    return [
        "# Benchmark results",
        "",
        f"Commit {_commit()}. Python {platform.python_version()} on {platform.machine()}, "
        f"{os.cpu_count()} cores; load average at the start: {_load()}. {packages}.",
        "",
        "Gateways run on one core; backend, callers, hub and issuer on another. Everything is on "
        "loopback. Gateways take turns, round by round, and each is started several times: a cell is the "
        "median of the rounds with its range, a ratio the median of the rounds' ratios. Each answer is "
        "compared, byte for byte, with what the backend sends to a caller that asks the same. "
        "**Only ratios within a run count**; times depend on the machine and on what else it does.",
        "",
    ]


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}"


def _load() -> str:
    return " ".join(f"{number:.1f}" for number in os.getloadavg())


def _names(
    text: str, known: Mapping[str, object] | Sequence[str], parser: argparse.ArgumentParser
) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
