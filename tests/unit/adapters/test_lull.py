"""The garbage collector's threshold while batches are counted."""

import gc
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from meter.adapters.functions.memory import BATCH_ALLOCATIONS, Lull
from meter.errors import StorageUnavailable
from meter.wiring.counting import build_aggregator
from tests.fakes.rows import MemoryRowStore
from tests.support.events import message, usage_event


class SeenStore(MemoryRowStore):
    """Notes the threshold at each write, which fails."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int]] = []

    async def write(self, *_: Any, **__: Any) -> NoReturn:
        self.seen.append(gc.get_threshold())
        raise StorageUnavailable("it fails")


def raised(usual: tuple[int, int, int]) -> tuple[int, int, int]:
    return (max(BATCH_ALLOCATIONS, usual[0]), *usual[1:])


def test_garbage_is_looked_for_seldom_until_the_last_batch_has_ended() -> None:
    """Batches of several partitions overlap."""
    usual, lull = gc.get_threshold(), Lull()
    with lull:
        with lull:
            first = gc.get_threshold()
        second = gc.get_threshold()

    assert first == second == raised(usual)
    assert gc.get_threshold() == usual


async def test_a_batch_that_fails_ends_it() -> None:
    """The threshold is the whole process's."""
    usual, store = gc.get_threshold(), SeenStore()
    aggregator = build_aggregator(store, timedelta(days=60))
    with pytest.raises(StorageUnavailable):
        await aggregator.handle([message(usage_event(1))])

    assert set(store.seen) == {raised(usual)}
    assert gc.get_threshold() == usual
