"""What all tests share: one running local stack for those that need the real parts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import RunningStack, run_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with its own stand-ins and short limits, shared by the whole session.

    Tests tell their calls apart by subjects of their own and clear the faults that they set.
    """
    state: Path = tmp_path_factory.mktemp("stack")
    settings = {
        "METER_FIRST_BYTE_TIMEOUT_SECONDS": "2",
        "METER_OUTBOX_INTERVAL_SECONDS": "2",
        "METER_JWKS_REFRESH_SECONDS": "1",
        "METER_EXPOSE_BACKEND": "true",
    }
    with run_stack(state, settings=settings) as running:
        yield running
