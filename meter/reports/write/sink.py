"""Where a library writes a file's bytes: up to a cut, after which they are dropped.

A library that is abandoned still writes the end of its file when it is cleaned up, which would make
half a file look like a whole one.
"""

from collections.abc import Buffer
from io import SEEK_SET, RawIOBase
from typing import BinaryIO


class Sink(RawIOBase):
    """Bytes to a stream, which stays open."""

    def __init__(self, out: BinaryIO) -> None:
        self._out: BinaryIO | None = out

    def cut(self) -> None:
        """Drop what comes from now on."""
        self._out = None

    def write(self, data: Buffer, /) -> int:
        """Write the bytes."""
        return memoryview(data).nbytes if self._out is None else self._out.write(data)

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether the stream is."""
        return self._out is not None and self._out.seekable()

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Go to another place of the stream."""
        return 0 if self._out is None else self._out.seek(offset, whence)

    def flush(self) -> None:
        """Leave that to the opener of the stream."""
