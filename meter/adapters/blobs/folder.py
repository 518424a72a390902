"""`meter.reports.export.target` in a local folder: files are renamed into their place."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

from meter.errors import ExportHeld, ExportUnavailable
from meter.reports.export.layout import LOCK
from meter.reports.export.target import Stored

_PART = ".part"


class LocalFolder:
    """An export in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self._root)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator["HeldFolder"]:
        """Lock the folder; the system lets go of it when the process dies."""
        lock = self._root / LOCK
        with _translated(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("ab")
        with file:
            try:
                _lock(file)
            except OSError:
                raise ExportHeld(f"another export is writing to {self._root}") from None
            held = HeldFolder(self._root)
            await asyncio.to_thread(held.clear)
            yield held


class HeldFolder:
    """The folder, while it is locked."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def clear(self) -> None:
        """Delete what a process that died has left half written."""
        with _translated(self._root):
            for part in self._root.rglob(f".*{_PART}"):
                part.unlink(missing_ok=True)

    async def read(self, path: str) -> Stored | None:
        """A small file; None if there is none."""
        with _translated(self._root / path):
            try:
                data = (self._root / path).read_bytes()
            except FileNotFoundError:
                return None
            return Stored(data, sha256(data).hexdigest())

    async def put(self, path: str, content: BinaryIO, *, replaces: str | None) -> str:
        """Write beside the file, then rename."""
        return await asyncio.to_thread(self._put, self._root / path, content, replaces)

    def _put(self, path: Path, content: BinaryIO, replaces: str | None) -> str:
        part = path.with_name(f".{path.name}{_PART}")
        with _translated(path):
            if replaces is not None and _digest(path) != replaces:
                raise ExportHeld(f"{path} was replaced by another export")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as out:
                    shutil.copyfileobj(content, out)
                    out.flush()
                    os.fsync(out.fileno())
                version = _digest(part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            return version

    async def paths(self, prefix: str) -> list[str]:
        """The paths that begin so, in order."""
        return await asyncio.to_thread(self._paths, prefix)

    def _paths(self, prefix: str) -> list[str]:
        with _translated(self._root):
            files = [
                Path(folder, name).relative_to(self._root).as_posix()
                for folder, _, names in os.walk(self._root)
                for name in names
                if not name.endswith(_PART)
            ]
        return sorted(path for path in files if path.startswith(prefix) and path != LOCK)

    async def delete(self, path: str) -> None:
        """Delete a file; it may be gone already."""
        with _translated(self._root / path):
            (self._root / path).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _lock(file: BinaryIO) -> None:
    """Lock a file for this process, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise ExportUnavailable, which names the file that was meant."""
    try:
        yield
    except OSError as exc:
        raise ExportUnavailable(f"{path}: {exc.strerror or exc}") from exc
