"""The source of the stand-in's numbers: a stand-in account's own record, or a file.

A file is JSON: the account's deployment to hour to numbers, all of them optional.
`{"gpt-4o": {"2026-11-22T07": {"prompt_tokens": 10, "completion_tokens": 5, "calls": 1}}}`
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=10)

# From the account's deployment, hour and metric to the sum.
type Numbers = Mapping[tuple[str, str, str], float]


async def read_numbers(source: str) -> Numbers:
    """The numbers from a stand-in account's URL, or from a file."""
    if source.startswith("http://"):
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"{source.rstrip('/')}/_calls") as response,
        ):
            return numbers_of_calls(await response.json())
    return await asyncio.to_thread(_numbers_of_file, Path(source))


def numbers_of_calls(calls: Iterable[Mapping[str, object]]) -> Numbers:
    """The sums of an account's record. A refused call counts as a request without tokens."""
    sums: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for call in calls:
        usage = call["usage"] or {}
        assert isinstance(usage, dict)
        entry: dict[str, float] = {
            "prompt_tokens": _count(usage, "prompt_tokens", "input_tokens"),
            "completion_tokens": _count(usage, "completion_tokens", "output_tokens"),
            "calls": 1,
        }
        deployment, hour = str(call["deployment"] or ""), str(call["at"])[:13]
        for key, number in _metrics(deployment, hour, entry).items():
            sums[key] += number
    return sums


def _count(usage: Mapping[str, object], *names: str) -> int:
    counts = (usage[name] for name in names if name in usage)
    count = next(counts, 0)
    assert isinstance(count, int), f"a usage has {count!r}"
    return count


def _numbers_of_file(path: Path) -> Numbers:
    numbers: dict[tuple[str, str, str], float] = {}
    for deployment, hours in json.loads(path.read_text(encoding="utf-8")).items():
        for hour, entry in hours.items():
            numbers |= _metrics(deployment, hour, entry)
    return numbers


def _metrics(
    deployment: str, hour: str, entry: Mapping[str, float]
) -> dict[tuple[str, str, str], float]:
    prompt, completion = entry.get("prompt_tokens", 0), entry.get("completion_tokens", 0)
    return {
        (deployment, hour, "ProcessedPromptTokens"): prompt,
        (deployment, hour, "GeneratedTokens"): completion,
        (deployment, hour, "TokenTransaction"): prompt + completion,
        (deployment, hour, "AzureOpenAIRequests"): entry.get("calls", 0),
    }
