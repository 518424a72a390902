"""The answer to a caller: its head waits for the first byte of body, its end for the call's end."""

from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from local.functions.proxy.head import Headers, RequestHead
from local.functions.proxy.stream import Stream

NO_BODY_STATUSES = frozenset({204, 304})


class CallerAnswer:
    """One answer. Nothing is sent before the first `write` or the `finish`."""

    def __init__(self, stream: Stream, head: RequestHead | None) -> None:
        self._stream = stream
        self._head = head
        self._status, self._reason = 0, ""
        self._headers: Headers = ()
        self._is_chunked = False
        self.is_begun = False  # a byte was handed to the caller's connection, or is about to be
        self.keeps_alive = head is not None and head.keeps_alive

    def take(self, status: int, reason: str, headers: Headers) -> None:
        """The head, to be held back."""
        self._status, self._reason, self._headers = status, reason, headers

    async def write(self, part: bytes) -> None:
        """Hand a part of the body on at once, behind the head if it is the first."""
        head = b"" if self.is_begun else self._begin(is_whole=False)
        framed = b"%x\r\n%s\r\n" % (len(part), part) if self._is_chunked else part
        await self._stream.write(head + framed)

    async def finish(self) -> None:
        """Let the answer end well."""
        end = b"0\r\n\r\n" if self._is_chunked else b""
        await self._stream.write(end if self.is_begun else self._begin(is_whole=True))

    async def fail(self, status: int, *, keeps_alive: bool = True) -> None:
        """Answer this status, without a body, in place of what was held back."""
        self.keeps_alive &= keeps_alive
        self.take(status, HTTPStatus(status).phrase, ())
        await self._stream.write(self._begin(is_whole=True))

    def _begin(self, *, is_whole: bool) -> bytes:
        self.is_begun = True
        names = {name.lower() for name, _ in self._headers}
        is_http_10 = self._head is not None and self._head.is_http_10
        is_bare = self._status in NO_BODY_STATUSES or (
            self._head is not None and self._head.method == "HEAD"
        )
        own: list[tuple[str, str]] = []
        if "content-length" not in names and not is_bare:
            if is_whole:
                own.append(("Content-Length", "0"))
            elif is_http_10:
                self.keeps_alive = False
            else:
                self._is_chunked = True
                own.append(("Transfer-Encoding", "chunked"))
        if not self.keeps_alive:
            own.append(("Connection", "close"))
        elif is_http_10:
            own.append(("Connection", "keep-alive"))
        own += [("Date", formatdate(usegmt=True))] if "date" not in names else []
        own += [("Server", "Kestrel")] if "server" not in names else []
        return _bytes(self._status, self._reason, [*self._headers, *own])


def _bytes(status: int, reason: str, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
