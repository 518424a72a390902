"""What all tests share: one running local stack for those that need the real parts."""

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.azurite import running_azurite
from tests.support.real_proxy import find_proxy
from tests.support.running import REPOSITORY, RunningStack, run_stack

# How long an example takes says more of the machine than of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# Shorter than usual, yet longer than hundreds of calls at once take on a busy machine.
SHORT_LIMITS = {
    "METER_FIRST_BYTE_TIMEOUT_SECONDS": "5",
    "METER_OUTBOX_INTERVAL_SECONDS": "2",
    "METER_JWKS_REFRESH_SECONDS": "1",
    "METER_INVOCATION_WAIT_SECONDS": "5",
    "METER_EXPOSE_BACKEND": "true",
    "METER_PRICES": str(REPOSITORY / "local" / "example-prices.csv"),
}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Ten thousand tests and their modules live until the end: garbage is not looked for among them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with its own stand-ins and short limits, shared by the whole session.

    Tests tell their calls apart by subjects of their own and clear the faults that they set.
    """
    state: Path = tmp_path_factory.mktemp("stack")
    with run_stack(state, settings=SHORT_LIMITS) as running:
        yield running


@pytest.fixture(scope="session")
def storage_accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[str]]:
    """Connection strings of empty storage accounts, as many as are asked for, on one Azurite."""
    with running_azurite(tmp_path_factory.mktemp("azurite")) as accounts:
        yield accounts


@pytest.fixture(scope="module")
def azurite(storage_accounts: Iterator[str]) -> str:
    """The connection string of a storage account that its module has to itself."""
    return next(storage_accounts)


@pytest.fixture(scope="session")
def yarp_front() -> Path:
    """Microsoft's proxy; the test is skipped where it is missing."""
    return find_proxy()


@pytest.fixture(scope="session")
def proxied_stack(
    tmp_path_factory: pytest.TempPathFactory, yarp_front: Path
) -> Iterator[RunningStack]:
    """The same stack behind Microsoft's proxy. To run a suite there, see `tests/support/real_proxy.py`."""
    state: Path = tmp_path_factory.mktemp("proxied")
    with run_stack(state, "--behind", str(yarp_front), settings=SHORT_LIMITS) as running:
        yield running
