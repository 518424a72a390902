"""A backend that costs almost nothing: `python -m bench.gateway.mock`.

Answers are precomputed (`bench/gateway/content.py`). The stand-ins of the local stack compute real
answers and would be the bottleneck here.
"""

import argparse
import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import httptools

from bench.gateway.content import ANSWER, FRAME_SECONDS, INCLUDES_USAGE, Deployment, frames

_WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: 1\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_END = b"0\r\n\r\n"


def _chunks(deployment: Deployment, *, with_usage: bool) -> Sequence[bytes]:
    """Each frame as a chunk; the end of the body goes with the last."""
    parts = [b"%x\r\n%s\r\n" % (len(f), f) for f in frames(deployment, with_usage=with_usage)]
    return [*parts[:-1], parts[-1] + _END]


@dataclass(frozen=True, slots=True)
class _Stream:
    with_usage: Sequence[bytes]
    without: Sequence[bytes]


_STREAMS = {
    f"/{each.value}/".encode(): _Stream(
        _chunks(each, with_usage=True), _chunks(each, with_usage=False)
    )
    for each in (Deployment.PACED, Deployment.SHORT)
}
_PACED = f"/{Deployment.PACED.value}/".encode()


class Backend(asyncio.Protocol):
    """Answers each request as soon as its body has arrived."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        """Stop answering."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """A request begins."""
        self._kind = next((kind for kind in _STREAMS if kind in url), None)
        self._asks_usage = False
        self._tail = b""

    def on_body(self, body: bytes) -> None:
        """Look whether a stream's usage is asked for."""
        if self._kind is not None:
            self._asks_usage |= INCLUDES_USAGE in self._tail + body
            self._tail = body[-len(INCLUDES_USAGE) :]

    def on_message_complete(self) -> None:
        """Answer."""
        if self._kind is None:
            self._transport.write(_WHOLE)
            return
        stream = _STREAMS[self._kind]
        chunks = stream.with_usage if self._asks_usage else stream.without
        if self._kind is _PACED or self._kind == _PACED:
            self._transport.write(_STREAM_HEAD + chunks[0])
            self._pace(chunks, 1, self._loop.time() + FRAME_SECONDS)
        else:
            self._transport.write(_STREAM_HEAD + b"".join(chunks))

    def _pace(self, chunks: Sequence[bytes], number: int, when: float) -> None:
        """Send the rest, a chunk at a time, by the clock and not by the last chunk's delay."""
        self._timer = self._loop.call_at(when, self._send, chunks, number, when)

    def _send(self, chunks: Sequence[bytes], number: int, when: float) -> None:
        self._transport.write(chunks[number])
        if number + 1 < len(chunks):
            self._pace(chunks, number + 1, when + FRAME_SECONDS)


async def _serve(ports: Sequence[int], tls: ssl.SSLContext | None, secure: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    listen = partial(loop.create_server, Backend, "127.0.0.1", backlog=1_024)
    servers = [await listen(port=port) for port in ports]
    servers += [await listen(port=port, ssl=tls) for port in secure]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway.mock")
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    parser.add_argument("--tls-ports", type=int, nargs="+", required=True)
    parser.add_argument("--certificate", required=True, help="a certificate and its key, PEM")
    options = parser.parse_args()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(options.certificate)
    asyncio.run(_serve(options.ports, tls, options.tls_ports))


if __name__ == "__main__":
    main()
