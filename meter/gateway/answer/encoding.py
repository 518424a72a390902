"""Decodes answers that a backend compressed although `identity` was requested (RFC 9110 section 8.4)."""

import zlib
from collections.abc import AsyncIterator

from meter.errors import UpstreamBroken
from meter.ports import Headers

MAX_DECODED_BYTES = 67_108_864
PART_BYTES = 262_144
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def is_decodable(encoding: str | None) -> bool:
    """Whether this module can decode a Content-Encoding."""
    return (encoding or "").strip().lower() in _WBITS


def is_encoded(encoding: str | None) -> bool:
    """Whether a Content-Encoding says that the bytes are not the content itself."""
    return (encoding or "").strip().lower() not in {"", "identity"}


def decoded(body: bytes, encoding: str | None) -> bytes:
    """A whole body, decoded; unchanged when it is not encoded or cannot be decoded."""
    if not is_decodable(encoding):
        return body
    try:
        return _decompressor(encoding).decompress(body, MAX_DECODED_BYTES)
    except zlib.error:
        return body


async def decoded_parts(parts: AsyncIterator[bytes], encoding: str | None) -> AsyncIterator[bytes]:
    """A stream, decoded. Raises UpstreamBroken when it does not match its header."""
    decompressor = _decompressor(encoding)
    try:
        async for part in parts:
            while part:
                if decompressor.eof:  # members may follow each other (RFC 1952 section 2.2)
                    decompressor = _decompressor(encoding)
                yield decompressor.decompress(part, PART_BYTES)
                part = decompressor.unconsumed_tail or decompressor.unused_data
    except zlib.error as exc:
        raise UpstreamBroken("an answer is not compressed as its header says") from exc
    if not decompressor.eof:
        raise UpstreamBroken("a compressed answer ends too early")


def without_encoding(headers: Headers) -> Headers:
    """The headers of an answer that has been decoded."""
    return tuple((name, value) for name, value in headers if name != "content-encoding")


def _decompressor(encoding: str | None) -> "zlib._Decompress":
    return zlib.decompressobj(_WBITS[(encoding or "").strip().lower()])
