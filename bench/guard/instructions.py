"""Counts the bytecode instructions that some work executes: the same number on every machine.

Time depends on the machine and its load; instructions do not. What they do not show is the work of C
code: how long a parser takes, or a copy of a large body.
"""

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from types import CodeType

_TOOL = sys.monitoring.PROFILER_ID
_INSTRUCTION = sys.monitoring.events.INSTRUCTION

type Work = Callable[[], Awaitable[object]]
type Counts = Counter[CodeType]


class StandingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still, so that timers are ordered alike and never fire."""

    def time(self) -> float:
        """The same moment."""
        return 1_000.0


async def count(work: Work) -> Counts:
    """Instructions by code object, of the work and of what the event loop does for it."""
    counts: Counts = Counter()

    def executed(code: CodeType, _offset: int) -> None:
        counts[code] += 1

    gc.collect()
    gc.disable()
    sys.monitoring.use_tool_id(_TOOL, "bench.guard")
    sys.monitoring.register_callback(_TOOL, _INSTRUCTION, executed)
    try:
        sys.monitoring.set_events(_TOOL, _INSTRUCTION)
        try:
            await work()
            await asyncio.sleep(0)
        finally:
            sys.monitoring.set_events(_TOOL, sys.monitoring.events.NO_EVENTS)
    finally:
        sys.monitoring.free_tool_id(_TOOL)
        gc.enable()
    return counts
