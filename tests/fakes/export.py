"""`meter.reports.export.target` in memory, with faults on demand."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from meter.errors import ExportHeld, ExportUnavailable
from meter.reports.export.target import Stored


class Killed(BaseException):
    """The process is gone: no handler of errors runs."""


@dataclass(slots=True)
class MemoryTarget:
    """A folder; `log` says what was put and deleted, in order.

    `room` is how many bytes may still be put, `life` how many changes the process lives for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    room: int | None = None
    life: int | None = None
    is_held: bool = False
    name: str = "memory"

    @asynccontextmanager
    async def hold(self) -> AsyncIterator["MemoryTarget"]:
        if self.is_held:
            raise ExportHeld("another export is writing to memory")
        self.is_held = True
        try:
            yield self
        finally:
            self.is_held = False

    async def read(self, path: str) -> Stored | None:
        data = self.files.get(path)
        return None if data is None else Stored(data, _version(data))

    async def put(self, path: str, content: BinaryIO, *, replaces: str | None) -> str:
        data = content.read()
        if replaces is not None and _version(self.files.get(path, b"")) != replaces:
            raise ExportHeld(f"{path} was replaced by another export")
        if self.room is not None:
            if len(data) > self.room:
                raise ExportUnavailable(f"{path}: no space left on device")
            self.room -= len(data)
        self._change(f"put {path}")
        self.files[path] = data
        return _version(data)

    async def paths(self, prefix: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(prefix))

    async def delete(self, path: str) -> None:
        self._change(f"delete {path}")
        self.files.pop(path, None)

    def _change(self, what: str) -> None:
        if self.life is not None:
            if self.life == 0:
                raise Killed
            self.life -= 1
        self.log.append(what)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
