"""`python -m bench.guard`: fails if a call, a stream or a batch executes more than its bound.

The bounds are the counts of `bounds.json`; `--write` writes what is counted now. A change within
`HEADROOM` passes; one that costs more is either made cheaper, or written with its reason.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.guard.instructions import Counts, StandingLoop, count
from bench.guard.workloads import workloads

BOUNDS = Path(__file__).parent / "bounds.json"
HEADROOM = 1.05
SHOWN = 25


def main() -> int:
    """Count, then compare or write; 1 if something executes too much."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="take what is counted as the bounds")
    parser.add_argument("--where", action="store_true", help="show the functions that execute most")
    options = parser.parse_args()
    counted = asyncio.run(_count(), loop_factory=StandingLoop)
    totals = {name: counts.total() for name, counts in counted.items()}
    if options.where:
        for name, counts in counted.items():
            print(f"{name}:", *_most(counts), sep="\n  ")
    if options.write:
        BOUNDS.write_text(
            json.dumps({"python": _python(), "instructions": totals}, indent=2) + "\n"
        )
        print(f"written: {totals}")
        return 0
    kept = json.loads(BOUNDS.read_text())
    if kept["python"] != _python():
        print(f"not compared: the bounds are of Python {kept['python']}, this is {_python()}")
        return 0
    return compare(totals, kept["instructions"])


def compare(totals: Mapping[str, int], bounds: Mapping[str, int]) -> int:
    """Print each count beside its bound; 1 if one is above it by more than the headroom."""
    worse = [name for name in totals if totals[name] > HEADROOM * bounds.get(name, 0)]
    for name, total in totals.items():
        change = total / bounds[name] - 1 if name in bounds else 0
        verdict = "  TOO MANY" if name in worse else ""
        print(f"{name}: {total:,} instructions, {change:+.1%} of its bound{verdict}")
    if worse:
        print(
            "More Python is executed than before. `python -m bench.guard --where` shows where; if it "
            "is worth it, `python -m bench.guard --write` and say why in the commit.",
            file=sys.stderr,
        )
    return 1 if worse else 0


async def _count() -> Mapping[str, Counts]:
    return {name: await count(work) for name, work in (await workloads()).items()}


def _most(counts: Counts) -> list[str]:
    return [
        f"{number:9,}  {Path(code.co_filename).name}:{code.co_firstlineno} {code.co_qualname}"
        for code, number in counts.most_common(SHOWN)
    ]


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


if __name__ == "__main__":
    sys.exit(main())
