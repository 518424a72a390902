"""These tests run in virtual time."""

from collections.abc import Callable, Mapping

from tests.fakes.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """The loop of every test beside this file."""
    return {"virtual time": VirtualTimeLoop}
