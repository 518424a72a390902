"""An ASGI app that knows how long its event loop stood still: `STANDING_APP` wrapped.

Each callback of the loop is timed, by this thread's CPU time: what the machine gave to others
meanwhile does not count. `GET /-/longest` answers the longest since it was last asked, in
milliseconds.
"""

import importlib
import os
import time
from asyncio import events
from functools import cache

from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE = "STANDING_APP"
PATH = "/-/longest"
_longest = 0.0


@cache
def _target() -> ASGIApp:
    """The app; from its import on callbacks are timed."""
    run = events.Handle._run

    def timed(handle: events.Handle) -> None:
        global _longest
        begun = time.thread_time()
        run(handle)
        # Frames of an exception refer to this one: a cycle, and collections would be timed.
        del handle
        _longest = max(_longest, time.thread_time() - begun)

    setattr(events.Handle, "_run", timed)  # noqa: B010  # mypy refuses to assign a method
    module, _, name = os.environ[VARIABLE].partition(":")
    found: ASGIApp = getattr(importlib.import_module(module), name)
    return found


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request (ASGI 3)."""
    global _longest
    if scope["type"] != "http" or scope["path"] != PATH:
        await _target()(scope, receive, send)
        return
    answer, _longest = b"%.3f" % (1000 * _longest), 0.0
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
