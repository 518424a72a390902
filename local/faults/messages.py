"""Reads one HTTP/1.1 message at a time and keeps its bytes as they came.

Requests are read whole, answers as they arrive. Nobody pipelines here: a caller waits for its
answer before the next request, as the SDKs do.
"""

import asyncio
from collections.abc import AsyncIterator

import httptools

from local.faults.link import PIECE_BYTES

_IDENTITY = "x-ms-client-request-id"


class Request:
    """A request: its bytes, and what faults are chosen by."""

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
        """One header; the Azure SDKs give a request and its repeats one identity."""
        if name.decode("latin-1").lower() == _IDENTITY:
            self.identity = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Part of the body, without its transfer coding."""
        self.body += body

    def on_message_complete(self) -> None:
        """Its end."""
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
    """The next request, None when the caller has left. Raises httptools.HttpParserError."""
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
    """The answer's bytes as they come, up to its end. Raises ConnectionError when it is cut."""
    answer = _Answer(method)
    parser = httptools.HttpResponseParser(answer)
    while not answer.is_whole:
        piece = await reader.read(PIECE_BYTES)
        if not piece:
            raise ConnectionError("the target closed in the middle of its answer")
        parser.feed_data(piece)
        yield piece
