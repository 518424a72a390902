"""The stand-in backends of a stack as a client of their own pages: their record of calls, and faults."""

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from local.plan import BACKEND_NAMES, Plan


def urls_of(plan: Plan) -> list[str]:
    """Their addresses, in the order of their names."""
    return [f"http://127.0.0.1:{plan.ports[name]}" for name in BACKEND_NAMES]


async def served_by(plan: Plan) -> list[Mapping[str, Any]]:
    """Their record of the calls that they served."""
    async with aiohttp.ClientSession() as session:
        calls: list[Mapping[str, Any]] = []
        for url in urls_of(plan):
            async with session.get(f"{url}/_calls") as response:
                calls += await response.json()
    return [call for call in calls if call["status"] == 200]


async def add_fault(urls: Sequence[str], fault: Mapping[str, object]) -> None:
    """Have each behave so (`local/openai/faults.py`)."""
    async with aiohttp.ClientSession() as session:
        for url in urls:
            async with session.post(f"{url}/_faults", json=fault) as response:
                response.raise_for_status()


async def clear_faults(urls: Sequence[str]) -> None:
    """Have each behave well again."""
    async with aiohttp.ClientSession() as session:
        for url in urls:
            async with session.delete(f"{url}/_faults") as response:
                response.raise_for_status()
