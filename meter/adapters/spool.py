"""`meter.ports.Spool`: in memory while small, in a temporary file beyond that."""

from tempfile import SpooledTemporaryFile

MAX_MEMORY_BYTES = 1_048_576


class FileSpool:
    """One request body. Its file has no name and is gone when it is closed."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES)  # noqa: SIM115  # `close` is its end

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._file.seek(0, 2)
        self._file.write(data)

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start`; empty at the end, and once it is closed."""
        if self._file.closed:
            return b""
        self._file.seek(start)
        return self._file.read(size)

    def close(self) -> None:
        """Forget it."""
        self._file.close()
