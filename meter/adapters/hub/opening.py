"""Has azure-eventhub open its links with pauses of 5 ms in place of 50.

Until a link is open, the SDK waits for the service's next frame, and then sleeps for 50 ms before it looks
at it. Each of the hub's two links takes several: 0.65 s, and 0.3 s without those sleeps, of a start's first
acknowledged call. No option of the SDK says how long they are. So the two modules that sleep there get an
`asyncio` whose sleep of just that length is shorter; all else is as it was, and where the SDK has changed
nothing is.
"""

import asyncio
import sys
from typing import Any

PAUSE_SECONDS = 0.05
SHORTER_SECONDS = 0.005
MODULES = ("azure.eventhub.aio._client_base_async", "azure.eventhub._pyamqp.aio._client_async")


class _Asyncio:
    """The module, but for that sleep."""

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, delay: float, *arguments: Any, **options: Any) -> None:
        if delay == PAUSE_SECONDS:
            delay = SHORTER_SECONDS
        await asyncio.sleep(delay, *arguments, **options)


def open_quickly() -> None:
    """Shorten the pauses of the SDK as it is loaded now."""
    for name in MODULES:
        module = sys.modules.get(name)
        if getattr(module, "asyncio", None) is asyncio:
            setattr(module, "asyncio", _Asyncio())  # noqa: B010  # not an attribute by type
