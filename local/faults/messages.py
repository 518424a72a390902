"""Reads one HTTP/1.1 message at a time and keeps its bytes unchanged.

Requests are read whole, answers as they arrive. Callers do not pipeline: they wait for an
answer before the next request, as the SDKs do.
"""

import asyncio
from collections.abc import AsyncIterator

import httptools

from local.faults.link import PIECE_BYTES

_IDENTITY = "x-ms-client-request-id"


class Request:
    """A request: its bytes, and the fields that faults match."""

    def __init__(self) -> None:
        self.raw = b""
        self.method = ""
        self.path = ""
        self.body = b""
        self.identity: str | None = None
        self.is_whole = False

    def on_url(self, url: bytes) -> None:
        """Part of the path with its query."""
        self.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """`x-ms-client-request-id`, which the Azure SDKs keep when they retry a request."""
        if name.decode("latin-1").lower() == _IDENTITY:
            self.identity = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Part of the body, without its transfer coding."""
        self.body += body

    def on_message_complete(self) -> None:
        """The end of the body."""
        self.is_whole = True


class _Answer:
    def __init__(self, method: str) -> None:
        self._is_bodyless = method == "HEAD"
        self.is_whole = False

    def on_headers_complete(self) -> None:
        self.is_whole = self._is_bodyless

    def on_message_complete(self) -> None:
        self.is_whole = True


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the caller has disconnected. Raises httptools.HttpParserError."""
    request = Request()
    parser = httptools.HttpRequestParser(request)
    while not request.is_whole:
        piece = await reader.read(PIECE_BYTES)
        if not piece:
            return None
        request.raw += piece
        parser.feed_data(piece)
    request.method = parser.get_method().decode("latin-1")
    return request


async def answer_pieces(reader: asyncio.StreamReader, method: str) -> AsyncIterator[bytes]:
    """The answer's bytes as they arrive, up to its end. Raises ConnectionError when it is cut."""
    answer = _Answer(method)
    parser = httptools.HttpResponseParser(answer)
    while not answer.is_whole:
        piece = await reader.read(PIECE_BYTES)
        if not piece:
            raise ConnectionError("the target closed in the middle of its answer")
        parser.feed_data(piece)
        yield piece
