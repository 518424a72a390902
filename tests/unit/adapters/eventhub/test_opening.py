"""The SDK's pauses while it opens a link, which a start would wait for."""

import asyncio
import sys

import azure.eventhub.aio  # noqa: F401  # what is changed
import pytest

from meter.adapters.hub import opening
from meter.adapters.hub.opening import MODULES, open_quickly


@pytest.mark.parametrize("name", MODULES)
async def test_the_pause_while_a_link_opens_is_short(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one alone: pauses between retries, and while the link is up, stay as long as they were."""
    slept: list[float] = []

    class Asyncio:
        async def sleep(self, delay: float) -> None:
            slept.append(delay)

    open_quickly()
    module = sys.modules[name]
    monkeypatch.setattr(opening, "asyncio", Asyncio())
    for seconds in (0.05, 1, 0.4):
        await module.asyncio.sleep(seconds)

    assert slept == [0.005, 1, 0.4]


def test_the_sdk_pauses_where_it_is_expected_to() -> None:
    """One that has changed is not changed again, and this must then be looked at."""
    for name in MODULES:
        assert "asyncio.sleep(0.05" in _source(name)
        assert sys.modules[name].asyncio.Event is asyncio.Event


def _source(name: str) -> str:
    path = sys.modules[name].__file__
    assert path is not None
    with open(path, encoding="utf-8") as lines:
        return lines.read()
