"""The front door with a no-op sink: the peer of publishing in `bench/publish.py`."""

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from meter.adapters.functions.web import live
from meter.bootstrap import App
from meter.gateway.http import RequestLimits
from meter.usage import UsageEvent


class _Nowhere:
    """A `meter.ports.UsageSink` that discards every event."""

    async def publish(self, event: UsageEvent) -> None:
        """Return at once."""


_app = App()


def _start() -> RequestLimits | None:
    _app.gateway().front_door.sink = _Nowhere()
    return _app.warm()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, or the lifespan protocol (ASGI 3)."""
    if scope["type"] == "lifespan":
        await live(receive, send, start=_start, close=_app.close)
    else:
        response = await _app.answer(Request(scope, receive))
        await response(scope, receive, send)
