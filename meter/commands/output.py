"""Writes a command's output: to standard output, or to a file that is never seen half written."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TextIO, cast

_IN_MEMORY = 1 << 20


@contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
    """A stream to the file, or to standard output. Raises OSError.

    The text goes to a file beside `path`, which replaces it at the end; after a failure nothing
    has changed. A program that reads standard output gets the whole text or none, a terminal gets
    it line by line. What is no regular file, such as a pipe, is written directly.
    """
    if path is None and sys.stdout.isatty():
        yield sys.stdout
    elif path is None:
        with SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="") as whole:
            yield cast(TextIO, whole)
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout)
    elif path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as stream:
            yield stream
    else:
        path = path.resolve()  # a link stays a link
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with _open(part, path) as stream:
                yield stream
            if path.exists():
                shutil.copymode(path, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _open(part: Path, path: Path) -> TextIO:
    """The part to write. An error names the file that was asked for."""
    try:
        return part.open("w", encoding="utf-8")
    except OSError as exc:
        exc.filename = str(path)
        raise
