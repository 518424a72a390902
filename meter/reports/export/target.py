"""The port of an export: a folder of files that one writer at a time keeps up to date."""

from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, NamedTuple, Protocol


class Stored(NamedTuple):
    """A small file as it was read; `version` changes whenever it is replaced."""

    data: bytes
    version: str


class ExportFolder(Protocol):
    """The folder, while it is held. Paths have `/`. All methods raise ExportUnavailable."""

    async def read(self, path: str) -> Stored | None:
        """A small file; None if there is none."""

    async def put(self, path: str, content: BinaryIO, *, replaces: str | None) -> str:
        """Replace a file, or make it; gives its version. Readers see one or the other, whole.

        `replaces` is the version that it must have, if any.
        """

    async def paths(self, prefix: str) -> list[str]:
        """The paths that begin so, in order; none of a file that is not whole."""

    async def delete(self, path: str) -> None:
        """Delete a file; it may be gone already."""


class ExportTarget(Protocol):
    """A place for one export."""

    @property
    def name(self) -> str:
        """The place, for people."""

    def hold(self) -> AbstractAsyncContextManager[ExportFolder]:
        """Have the folder alone for a while. Raises ExportHeld, ExportUnavailable.

        A holder that dies lets go of it, after a minute at most.
        """
