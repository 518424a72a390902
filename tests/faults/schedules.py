"""`python -m tests.faults.schedules --seconds 60 [--seed N]`: random schedules of the ledger, for long."""

import argparse
import asyncio
import time

from tests.support.schedules import run_schedule


def main() -> None:
    """Run schedules from the first seed on until the time is over; a failure names its seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first seed")
    options = parser.parse_args()
    print(f"schedules from seed {options.seed} on, for {options.seconds:.0f} s", flush=True)
    end, seed = time.monotonic() + options.seconds, options.seed
    while time.monotonic() < end:
        asyncio.run(run_schedule(seed))
        seed += 1
    print(f"{seed - options.seed} schedules: all counted once, and shown")


if __name__ == "__main__":
    main()
