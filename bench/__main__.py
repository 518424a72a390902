"""`python -m bench`: runs the benchmarks and writes bench/results.md."""

import argparse
import asyncio
import platform
import sys
from pathlib import Path

from bench import aggregator, files, front_door, invoice, publish, report
from bench.servers import ground

RESULTS = Path(__file__).parent / "results.md"


def main() -> int:
    """Run all benchmarks; print and write the results."""
    argparse.ArgumentParser(
        prog="python -m bench",
        description="Run all benchmarks, print the results and write them to bench/results.md.",
    ).parse_args()
    text = "\n".join(asyncio.run(_run()))
    RESULTS.write_text(text)
    print(text)
    return 0


async def _run() -> list[str]:
    async with ground() as shared:
        sections = [
            *front_door.report(await front_door.measure(shared)),
            *publish.report(await publish.measure(shared)),
        ]
    sections += aggregator.report(await aggregator.measure())
    sections += report.report(await report.measure())
    sections += files.report(await files.measure())
    sections += invoice.report(await invoice.measure())
    return [
        "# Benchmark results",
        "",
        f"Python {platform.python_version()}, {platform.machine()}.",
        "",
        *sections,
        "Not measured yet: streams, the Functions host's share.",
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
