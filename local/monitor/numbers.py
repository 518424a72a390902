"""The source of the stand-in's numbers: a stand-in account's own record, or a file.

A file is JSON: the account's deployment to hour to numbers, or to a list of them; all are optional.
`{"gpt-4o": {"2026-11-22T07": {"prompt_tokens": 10, "completion_tokens": 5, "calls": 1,
"service_tier": "priority", "requested_tier": "auto", "is_spillover": true, "status": 200}}}`
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Key(NamedTuple):
    """What a number is of: a metric in an hour, with the values of all dimensions."""

    hour: str
    metric: str
    deployment: str
    service_tier: str = "default"
    requested_tier: str = "default"
    is_spillover: str = "False"
    status: str = "200"


type Numbers = Mapping[Key, float]


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
    """The sums of an account's record. A refused call counts as a request without tokens.

    Tokens of an image tool are those of its own deployment.
    """
    return _summed(entry for call in calls for entry in _entries_of(call))


type _Entry = tuple[str, str, Mapping[str, object]]


def _entries_of(call: Mapping[str, Any]) -> Iterator[_Entry]:
    hour = str(call["at"])[:13]
    entry = _tokens(call["usage"] or {}) | {
        "calls": 1,
        "service_tier": call.get("service_tier"),
        "requested_tier": call.get("requested_tier"),
        "is_spillover": bool(call.get("spilled_from")),
        "status": call.get("status"),
    }
    yield str(call["deployment"] or ""), hour, entry
    for tool in call.get("tools") or ():
        yield str(tool["deployment"]), hour, _tokens(tool["counts"])


def _tokens(usage: Mapping[str, object]) -> dict[str, object]:
    return {
        "prompt_tokens": _count(usage, "prompt_tokens", "input_tokens"),
        "completion_tokens": _count(usage, "completion_tokens", "output_tokens"),
    }


def _count(usage: Mapping[str, object], *names: str) -> int:
    counts = (usage[name] for name in names if name in usage)
    count = next(counts, 0)
    assert isinstance(count, int), f"a usage has {count!r}"
    return count


def _numbers_of_file(path: Path) -> Numbers:
    document = json.loads(path.read_text(encoding="utf-8"))
    return _summed(
        (deployment, hour, entry)
        for deployment, hours in document.items()
        for hour, entries in hours.items()
        for entry in (entries if isinstance(entries, list) else [entries])
    )


def _summed(entries: Iterable[_Entry]) -> Numbers:
    sums: defaultdict[Key, float] = defaultdict(float)
    for deployment, hour, entry in entries:
        tier = str(entry.get("service_tier") or "default")
        dimensions = {
            "deployment": deployment,
            "service_tier": tier,
            "requested_tier": str(entry.get("requested_tier") or tier),
            "is_spillover": str(bool(entry.get("is_spillover"))),
            "status": str(entry.get("status") or 200),
        }
        for metric, number in _metrics(entry):
            sums[Key(hour, metric, **dimensions)] += number
    return sums


def _metrics(entry: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    prompt, completion, calls = (
        float(str(entry.get(name, 0))) for name in ("prompt_tokens", "completion_tokens", "calls")
    )
    yield "ProcessedPromptTokens", prompt
    yield "GeneratedTokens", completion
    yield "TokenTransaction", prompt + completion
    yield "AzureOpenAIRequests", calls
