"""Processes killed, stopped and frozen under load: a call seen by its caller is counted once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from local.faults import Flow, Rules
from tests.faults.calling import Callers, judge_in_the_end, until
from tests.faults.stage import Stage, staged
from tests.support.running import new_subject

KILLS = 2
SEEN_BEFORE = 25  # answered calls before each kill, so that it comes under load
AT_ONCE = 16

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def callers(stage: Stage) -> AsyncIterator[Callers]:
    await stage.clear()
    stage.stack.clear_faults()
    yield Callers(stage, [new_subject("kill") for _ in range(10)])


async def test_a_worker_killed_in_the_middle_of_relays_loses_no_call_that_was_seen(
    stage: Stage, callers: Callers
) -> None:
    """After kill -9 during streams their callers see a break, and all other calls are counted."""
    stage.stack.fault({"chunk_delay_ms": 20, "count": None})
    async with callers.calling(AT_ONCE):
        for _ in range(KILLS):
            await callers.until_seen(SEEN_BEFORE)
            await stage.kill_worker()
        await callers.until_seen(20)
    judgement = await judge_in_the_end(stage, callers.calls)

    assert judgement.problems == []
    assert any(call.event_id and not call.is_seen for call in callers.calls), "no stream was broken"
    assert judgement.seen > 0


async def test_a_worker_killed_while_events_are_published_loses_no_call_that_was_seen(
    stage: Stage, callers: Callers
) -> None:
    """The hub is slow, so that at kill -9 most calls wait for it; some events are on it already."""
    await stage.hub_proxy.put(Rules(up=Flow(latency_ms=70), down=Flow(latency_ms=70)))
    async with callers.calling(AT_ONCE):
        for _ in range(KILLS):
            await callers.until_seen(SEEN_BEFORE)
            await stage.kill_worker()
    await stage.clear()
    judgement = await judge_in_the_end(stage, callers.calls)

    assert judgement.problems == []
    assert judgement.counted > judgement.seen > 0, "no event was on its way at a kill"


async def test_a_worker_killed_while_it_commits_doubles_nothing(
    stage: Stage, callers: Callers
) -> None:
    """The storage is slow, so that kill -9 hits a transaction in progress, applied or not."""
    async with callers.calling(AT_ONCE):
        for latency_ms in (50, 120):
            await stage.storage_proxy.put(
                Rules(up=Flow(latency_ms=latency_ms), down=Flow(latency_ms=latency_ms))
            )
            await callers.until_seen(SEEN_BEFORE)
            await storage_is_written_to(stage)
            await stage.kill_worker()
    await stage.clear()
    judgement = await judge_in_the_end(stage, callers.calls)

    assert judgement.problems == []
    assert judgement.seen > 0


async def storage_is_written_to(stage: Stage) -> None:
    """Return just after a request has arrived: it is in progress then, since the storage is slow."""
    before = stage.storage_proxy.stats()["requests"]
    await until(lambda: stage.storage_proxy.stats()["requests"] > before)


async def test_a_hub_killed_under_load_loses_and_doubles_nothing(
    stage: Stage, callers: Callers
) -> None:
    """After kill -9 and a second without the endpoint, its disk and the outbox have everything."""
    async with callers.calling(AT_ONCE):
        for _ in range(KILLS):
            await callers.until_seen(SEEN_BEFORE)
            stage.hub.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(stage.hub.start)
    judgement = await judge_in_the_end(stage, callers.calls)

    assert judgement.problems == []
    assert judgement.seen == judgement.made == judgement.counted == judgement.recorded


async def test_a_storage_that_is_stopped_and_frozen_loses_and_doubles_nothing(
    stage: Stage, callers: Callers
) -> None:
    """After a restart, and after SIGSTOP and SIGCONT, callers notice nothing and counting catches up."""
    async with callers.calling(AT_ONCE):
        await asyncio.sleep(1)
        await asyncio.to_thread(stage.storage.stop)
        await asyncio.sleep(1)
        await asyncio.to_thread(stage.storage.start)
        await asyncio.sleep(1)
        stage.storage.freeze()
        await asyncio.sleep(2)
        stage.storage.resume()
        await asyncio.sleep(0.5)
    judgement = await judge_in_the_end(stage, callers.calls)

    assert judgement.problems == []
    assert judgement.seen == judgement.made == judgement.counted == judgement.recorded
