"""What calls and batches leave behind: nothing that only a garbage collection can free.

Collections are rare in the app, so what lies in cycles until then is memory that grows with calls.
"""

import asyncio
import gc

from bench.guard.instructions import StandingLoop
from bench.guard.workloads import workloads


async def _left() -> dict[str, int]:
    left = {}
    for name, work in (await workloads()).items():
        gc.collect()
        gc.disable()
        try:
            await work()
            await asyncio.sleep(0)
            left[name] = gc.collect()
        finally:
            gc.enable()
    return left


def test_calls_streams_and_batches_leave_no_cycles() -> None:
    """All that they made is freed as they end: an exception in a variable of its own frame is enough."""
    left = asyncio.run(_left(), loop_factory=StandingLoop)

    assert set(left.values()) == {0}, left
    assert len(left) == 5
