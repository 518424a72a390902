"""`python -m bench`: runs the benchmarks and writes bench/results.md."""

import asyncio
import platform
import sys
from pathlib import Path
from statistics import median

from bench import front_door
from bench.load import Measured

RESULTS = Path(__file__).parent / "results.md"


def main() -> int:
    """Run all; print and write the results."""
    text = _report(asyncio.run(front_door.measure()))
    RESULTS.write_text(text)
    print(text)
    return 0


def _report(results: dict[str, list[Measured]]) -> str:
    rows = [
        f"| {name} | {median(m.cpu_ms_a_call for m in runs):.3f} "
        f"| {median(m.calls / m.seconds for m in runs):,.0f} "
        f"| {median(m.p50_ms for m in runs):.1f} | {median(m.p99_ms for m in runs):.1f} |"
        for name, runs in results.items()
    ]
    return "\n".join(
        [
            "# Benchmark results",
            "",
            f"Python {platform.python_version()}, {platform.machine()}. Medians of "
            f"{front_door.ROUNDS} rounds of {front_door.CALLS:,} calls over "
            f"{front_door.CONNECTIONS} connections, 2 KB answers, server pinned to one core, "
            "client and backend on another. The front door verifies a JWT, balances, reads the "
            "usage and publishes in the background; the bare relay does nothing but relay.",
            "",
            "| server | CPU ms a call | calls/s | p50 ms | p99 ms |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "Not measured yet: the aggregator's throughput, streams, the Functions host's share.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
