"""What calls and batches leave behind: nothing that only a garbage collection can free.

Collections are rare in the app, so what lies in cycles until then is memory that grows with calls. And what
bodies were in serves those that follow.
"""

import asyncio
import gc
import platform
import subprocess
import sys

import pytest

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


_NEW_PAGES = """
import resource
from meter.adapters.functions.memory import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [bytearray(b"x") * 90_000 for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(new_pages())
keep_freed_memory()
new_pages()
print(new_pages())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they keep"
)
def test_the_memory_of_a_body_serves_the_next_one() -> None:
    """Of four copies of 90 KB, made and freed 50 times, the kernel is asked for no page anew."""
    found = subprocess.run(
        [sys.executable, "-c", _NEW_PAGES], capture_output=True, check=True, text=True, timeout=60
    )

    before, after = map(int, found.stdout.split())
    assert before > 1_000
    assert after < 50
