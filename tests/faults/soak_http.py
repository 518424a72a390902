"""`python -m tests.faults.soak_http --seconds 600`: the front door near saturation, for long, without faults.

Callers never pause, so the gateway's core is always busy. They ask for whole answers and streams, on
kept and on new connections; some read slowly, and one in ten leaves. The exit code is 1 if a call of a
caller that stayed fails, if one is lost or counted otherwise than billed, or if memory grows with calls.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from secrets import randbelow

import aiohttp

from tests.faults.calling import CHAT, Call, judge_in_the_end
from tests.faults.stage import Stage, staged

AT_ONCE = 32
LEAVERS = 0.10
SLOW = 0.10
CHURN = 0.25  # calls on a connection of their own
SLOW_READ_BYTES, SLOW_PAUSE_SECONDS = 256, 0.02
SAMPLE_SECONDS = 1.0
WARM_UP = 1 / 2  # of the time: caches fill and pools grow until then
MOST_MB_PER_100K_CALLS = 5.0
STEPS_MB = 3.0  # Python takes memory by the megabyte: a few of them are no slope
LEAST_CALLS = 20_000  # below it a slope says nothing: a full cache looks like growth
PAGE_BYTES = 4096


class Way(StrEnum):
    """How a caller takes its answer."""

    WHOLE = "whole answer"
    STREAM = "stream"
    SLOW_STREAM = "stream, read slowly"
    LEAVER = "leaver"


@dataclass(slots=True)
class Log:
    """What the callers met: their calls, and the seconds until each way's end."""

    calls: list[Call] = field(default_factory=list)
    seconds: dict[Way, list[float]] = field(default_factory=lambda: {way: [] for way in Way})
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Crowd:
    """Callers that never pause. Raises nothing: what goes wrong is in the log."""

    stage: Stage
    dice: Random
    tokens: dict[str, str]
    log: Log = field(default_factory=Log)

    async def call_until(self, ends: float) -> None:
        """One caller's calls, one after the other."""
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as kept:
            while loop.time() < ends:
                if self.dice.random() >= CHURN:
                    await self._call(kept)
                    continue
                async with aiohttp.ClientSession() as new:
                    await self._call(new)

    def _way(self) -> Way:
        at = self.dice.random()
        if at < LEAVERS:
            return Way.LEAVER
        if at < LEAVERS + SLOW:
            return Way.SLOW_STREAM
        return self.dice.choice([Way.WHOLE, Way.STREAM])

    async def _call(self, http: aiohttp.ClientSession) -> None:
        loop, way = asyncio.get_running_loop(), self._way()
        call = Call(subject=self.dice.choice(list(self.tokens)), started=loop.time())
        self.log.calls.append(call)
        try:
            if way is Way.LEAVER:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.dice.random() * 0.05):
                        await self._take(http, call, way)
                return
            await self._take(http, call, way)
        except (aiohttp.ClientError, OSError) as failure:
            if way is not Way.LEAVER:
                self.log.failures[f"{way}: {type(failure).__name__}"] += 1
            return
        call.ended = loop.time()
        self.log.seconds[way].append(call.ended - call.started)
        if not call.is_seen:
            self.log.failures[f"{way}: not a whole 200"] += 1

    async def _take(self, http: aiohttp.ClientSession, call: Call, way: Way) -> None:
        is_stream = way in {Way.STREAM, Way.SLOW_STREAM} or self.dice.random() < 0.5
        is_stream = is_stream and way is not Way.WHOLE
        body = {
            "stream": is_stream,
            "max_tokens": self.dice.randint(1, 40),
            "messages": [{"role": "user", "content": "word " * self.dice.randint(0, 200)}],
        }
        headers = {"authorization": f"Bearer {self.tokens[call.subject]}"}
        url = self.stage.stack.url + CHAT
        async with http.post(url, json=body, headers=headers) as answer:
            joined = answer.headers.get("x-meter-joined")  # a repeat makes no event of its own
            call.event_id = joined or answer.headers.get("x-meter-event-id")
            call.request_id = answer.headers.get("x-request-id")
            text = b""
            while part := await answer.content.read(
                SLOW_READ_BYTES if way is Way.SLOW_STREAM else 65_536
            ):
                text += part
                if way is Way.SLOW_STREAM:
                    await asyncio.sleep(SLOW_PAUSE_SECONDS)
        is_whole = text.endswith(b"data: [DONE]\n\n") if is_stream else True
        call.is_seen = answer.status == 200 and is_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The gateway's resident memory after so many calls."""

    calls: int
    megabytes: float


def slope(samples: Sequence[Sample]) -> float:
    """Megabytes per 100,000 calls, by least squares; 0 for fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    calls = sum(each.calls for each in samples) / len(samples)
    memory = sum(each.megabytes for each in samples) / len(samples)
    spread = sum((each.calls - calls) ** 2 for each in samples)
    if not spread:
        return 0.0
    shared = sum((each.calls - calls) * (each.megabytes - memory) for each in samples)
    return shared / spread * 100_000


def has_grown(samples: Sequence[Sample]) -> bool:
    """Whether memory grows with calls: by more than the steps in which it is taken, which say nothing."""
    calls = samples[-1].calls - samples[0].calls if samples else 0
    most = max(STEPS_MB, MOST_MB_PER_100K_CALLS * calls / 100_000)
    return slope(samples) * calls / 100_000 > most


async def _sample(pid: int, log: Log, samples: list[Sample]) -> None:
    while True:
        samples.append(Sample(calls=len(log.calls), megabytes=_resident_megabytes(pid)))
        await asyncio.sleep(SAMPLE_SECONDS)


def _resident_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


async def main(seconds: float, seed: int, subjects: int, folder: Path) -> int:
    """Run it and print the report; return 0 when nothing failed, was lost or grew."""
    print(
        f"soak-http: {seconds:.0f} s, {AT_ONCE} callers, {subjects} subjects, seed {seed}",
        flush=True,
    )
    samples: list[Sample] = []
    async with staged(folder) as stage:
        names = [f"soak-http-{number:03d}" for number in range(subjects)]
        crowd = Crowd(stage, Random(seed), {name: stage.token(name) for name in names})
        sampling = asyncio.create_task(
            _sample(stage.stack.description["pids"]["gateway"], crowd.log, samples)
        )
        ends = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as callers:
            for _ in range(AT_ONCE):
                callers.create_task(crowd.call_until(ends))
        sampling.cancel()
        judgement = await judge_in_the_end(stage, crowd.log.calls)
    judged = samples[int(len(samples) * WARM_UP) :]
    _report(crowd.log, samples, slope(judged), seconds)
    print(
        f"counted {judgement.counted}, recorded by the backends {judgement.recorded},"
        f" lost {len(judgement.lost)}, with other tokens {len(judgement.differing)},"
        f" missing in sums {len(judgement.missing)}, doubled {len(judgement.doubled)}"
    )
    is_long = len(crowd.log.calls) >= LEAST_CALLS
    is_bad = crowd.log.failures or judgement.problems or (is_long and has_grown(judged))
    good = "nothing failed, nothing lost" + (
        ", nothing grew" if is_long else "; too short for memory"
    )
    print(f"soak-http: {'FAILED' if is_bad else good}")
    return 1 if is_bad else 0


def _report(log: Log, samples: Sequence[Sample], grown: float, seconds: float) -> None:
    print(f"\n{'way':20}{'calls':>8}{'p50 ms':>9}{'p99 ms':>9}{'longest':>9}")
    for way, took in log.seconds.items():
        if took and way is not Way.LEAVER:
            took.sort()
            shown = [took[len(took) // 2], took[len(took) * 99 // 100], took[-1]]
            print(f"{way:20}{len(took):8}" + "".join(f"{each * 1000:9.0f}" for each in shown))
    made = len(log.calls)
    stayed = sum(map(len, log.seconds.values()))
    print(f"\nmade {made} ({made / seconds:.0f} a second), to their end {stayed}")
    for what, times in log.failures.items():
        print(f"  failed: {what}: {times}")
    print(
        f"failed {log.failures.total()}; memory {samples[0].megabytes:.0f} MB at first,"
        f" {samples[-1].megabytes:.0f} MB at last, slope {grown:.1f} MB per 100,000 calls"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak_http", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=randbelow(1_000_000), help="what callers do")
    parser.add_argument("--subjects", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(asyncio.run(main(options.seconds, options.seed, options.subjects, Path(folder))))
