"""Runs the Retail Prices API until SIGTERM: `python -m local.prices --table FILE.csv`."""

import argparse
import asyncio
import gzip
from pathlib import Path

from local.prices.items import items_of_table
from local.prices.server import StandInPrices
from local.serving import serve


def main() -> None:
    """Parses the arguments, serves until SIGTERM or Ctrl-C, exits with 0."""
    parser = argparse.ArgumentParser(prog="python -m local.prices", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 picks a free one")
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV of meters (local/prices/items.py), plain or gzip, such as "
        "tests/data/azure-retail-meters/meters.csv.gz",
    )
    arguments = parser.parse_args()
    text = arguments.table.read_bytes()
    if arguments.table.suffix == ".gz":
        text = gzip.decompress(text)
    items = items_of_table(text.decode("utf-8").splitlines())
    asyncio.run(serve(StandInPrices(items), arguments.port))


if __name__ == "__main__":
    main()
