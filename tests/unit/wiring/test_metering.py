"""The aggregator is built with as much memory as the machine can spare."""

import pytest

from meter.ledger.memory import MOST_KNOWN_BYTES
from meter.wiring import counting
from tests.fakes.rows import MemoryRowStore
from tests.support.events import RETENTION

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("memory", "remembered"),
    [
        (512 * MIB, 512 * MIB // 6),
        (2_048 * MIB, MOST_KNOWN_BYTES),
        (65_536 * MIB, MOST_KNOWN_BYTES),
    ],
)
async def test_an_aggregator_remembers_rows_in_a_sixth_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, remembered: int
) -> None:
    """An instance of 2 GiB has room for the sums of ten thousand subjects; more is never taken."""
    monkeypatch.setattr(counting, "visible_memory_bytes", lambda: memory)

    assert counting.build_aggregator(MemoryRowStore(), RETENTION).most_known_bytes == remembered
