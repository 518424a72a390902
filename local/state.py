"""A stack's state directory, which one running stack has for itself."""

import fcntl
from pathlib import Path
from typing import IO


class StateTaken(Exception):
    """Another running stack has the directory."""


class StateLock:
    """Holds a state directory until it is released, or the process ends."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._file: IO[str] | None = None

    @property
    def is_held(self) -> bool:
        """Whether this stack has the directory."""
        return self._file is not None

    def take(self) -> None:
        """Take the directory. Raises StateTaken."""
        if self._file is not None:
            return
        self._state.mkdir(parents=True, exist_ok=True)
        file = (self._state / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StateTaken(
                f"a stack is running in {self._state}: stop it, or choose another directory with --state"
            ) from None
        self._file = file

    def release(self) -> None:
        """Give the directory back."""
        if self._file is not None:
            self._file.close()
            self._file = None
