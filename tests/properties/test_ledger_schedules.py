"""Two thousand random schedules of the ledger; a failure names its seed. `make soak` tries others."""

import pytest

from tests.support.schedules import run_schedule

SCHEDULES = 2_000
AT_ONCE = 100


@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_ONCE))
async def test_all_is_counted_once_and_shown_whatever_dies_or_outlives_its_lease(
    first: int,
) -> None:
    """By the hub's redeliveries and the sweep alone, with rebuilds beside them."""
    for seed in range(first, first + AT_ONCE):
        await run_schedule(seed)
