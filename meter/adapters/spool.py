"""`meter.ports.Spool`: in memory while small, in a temporary file beyond that."""

from tempfile import SpooledTemporaryFile

from meter.errors import Overloaded

MAX_MEMORY_BYTES = 1_048_576


class FileSpool:
    """One request body. Its file has no name and is deleted when closed."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES)  # noqa: SIM115  # `close` is its end

    def append(self, data: bytes) -> None:
        """Append bytes. Raises Overloaded when there is no room for them."""
        try:
            self._file.seek(0, 2)
            self._file.write(data)
        except OSError as exc:
            text = "This instance has no room for the request body now."
            raise Overloaded(text, retry_after_seconds=1, status=503) from exc

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes from `start`; empty at the end."""
        self._file.seek(start)
        return self._file.read(size)

    def close(self) -> None:
        """Delete the body."""
        self._file.close()
