"""A document in a file: its version is when it was changed, its size and its inode."""

import asyncio
from pathlib import Path

from meter.reloading.document import Document, DocumentUnread

MAX_BYTES = 67_108_864


class FileSource:
    """One file, read in a worker thread: it may be on a share."""

    def __init__(self, location: str) -> None:
        self._location = location

    @property
    def location(self) -> str:
        """Its path, as the settings have it."""
        return self._location

    async def read(self, known: str | None) -> Document | None:
        """The document; None where `known` is its version still. Raises DocumentUnread."""
        return await asyncio.to_thread(self._read, known)

    async def close(self) -> None:
        """There is nothing to close."""

    def _read(self, known: str | None) -> Document | None:
        path = Path(self._location)
        try:
            status = path.stat()
            version = f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"
            if version == known:
                return None
            if status.st_size > MAX_BYTES:
                raise DocumentUnread(f"{self._location}: larger than {MAX_BYTES} bytes")
            return Document(path.read_text(encoding="utf-8-sig"), version)
        except OSError as exc:
            raise DocumentUnread(f"{self._location}: {exc.strerror or exc}") from exc
        except ValueError as exc:
            raise DocumentUnread(f"{self._location}: is not UTF-8") from exc
