"""Runs checks beside each other, each in bounded time; one that fails hides no other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from meter.doctor.finding import Area, Diagnosis, Examined, Finding, diagnosis_of

CHECK_SECONDS = 30.0
ALL_SECONDS = 60.0
MOST_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. `run` says what it found; what it raises is a finding, too."""

    area: Area
    name: str
    run: Callable[[], Awaitable[Sequence[Finding]]]


async def diagnose(
    checks: Sequence[Check],
    *,
    conclude: Callable[[], Sequence[Finding]] = tuple,
    check_seconds: float = CHECK_SECONDS,
    all_seconds: float = ALL_SECONDS,
) -> Diagnosis:
    """All findings, in about `all_seconds` at most, and what `conclude` says once the checks are over."""
    turns = asyncio.Semaphore(MOST_AT_ONCE)
    tasks = [asyncio.create_task(_run(each, turns, check_seconds)) for each in checks]
    if tasks:
        await _end(tasks, all_seconds)
    findings: list[Finding] = []
    for check, task in zip(checks, tasks, strict=True):
        findings += [_unfinished(check, all_seconds)] if task.cancelled() else task.result()
    return diagnosis_of([*findings, *conclude()])


async def _end(tasks: Sequence[asyncio.Task[Sequence[Finding]]], seconds: float) -> None:
    """Wait for all; those that do not end in time are cancelled."""
    try:
        await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(check: Check, turns: asyncio.Semaphore, seconds: float) -> Sequence[Finding]:
    async with turns:
        try:
            async with asyncio.timeout(seconds):
                return await check.run()
        except TimeoutError:
            return [_unfinished(check, seconds)]
        except Exception as exc:
            # Its text may hold anything, a key included.
            return [_failed(check, f"failed unexpectedly: {type(exc).__name__}")]


def _unfinished(check: Check, seconds: float) -> Finding:
    return _failed(check, f"no result within {seconds:g} s")


def _failed(check: Check, found: str) -> Finding:
    return Examined(area=check.area, name=check.name).failure(found)
