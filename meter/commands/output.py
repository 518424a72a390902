"""A command's output: its format, and the file, never seen half written, or standard output."""

import argparse
import gzip
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Buffer, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from errno import EACCES
from pathlib import Path
from typing import IO, BinaryIO, TextIO, cast, overload

from meter.commands.console.parser import CommandParser
from meter.commands.console.version import program_version
from meter.errors import InvalidInput
from meter.gateway.backend import Backend
from meter.reports.focus.terms import FocusTerms, resources_of
from meter.reports.focus.version import FocusVersion
from meter.reports.page.terms import PageTerms
from meter.reports.query import Query
from meter.reports.write.formats import PACKED, Format, format_named
from meter.reports.write.report import Output

_IN_MEMORY = 1 << 20
_BUFFER = 1 << 17


def chosen_format(
    parser: CommandParser, options: argparse.Namespace, inputs: Iterable[Path] = ()
) -> Format:
    """The format of the output. Exits with 2 if it cannot go where it is to go.

    `inputs` are files that the command reads, which its output must not replace.
    """
    out: Path | None = options.out
    named = None if out is None else format_named(out.name)
    form = Format(options.format) if options.format else named or Format.TABLE
    if form not in options.formats:
        parser.error(
            f"argument --out: {out} is named like {form}: this command writes "
            f"{', '.join(options.formats)}"
        )
    if out is None:
        if form.is_binary and sys.stdout.isatty():
            parser.error(f"argument --format: {form} is not for a terminal: give --out FILE")
        return form
    if not form.suits(out.name):
        parser.error(
            f"argument --out: {out} is named like {named}, and --format is {form}: "
            "leave out --format, or give a name with another ending"
        )
    if problem := _problem(out, inputs):
        parser.error(f"argument --out: {out} {problem}")
    return form


def focus_terms(options: argparse.Namespace, backends: Iterable[Backend]) -> FocusTerms:
    """The terms that these options say, and the accounts of the backends."""
    return FocusTerms(
        version=FocusVersion(options.focus_version),
        billing_account=options.billing_account,
        resources=resources_of(backends),
    )


def _problem(out: Path, inputs: Iterable[Path]) -> str | None:
    """What is wrong with a file's place; found before a long reading, not after it."""
    if out.is_dir():
        return "is a folder"
    if not out.absolute().parent.is_dir():
        return "is in a folder that does not exist"
    if any(_is_same(out, each) for each in inputs):
        return "is read by this command: give the output another name"
    return None


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


@overload
def open_output(path: Path | None) -> AbstractContextManager[TextIO]: ...
@overload
def open_output(path: Path | None, form: Format) -> AbstractContextManager[Output]: ...
def open_output(path: Path | None, form: Format = Format.TABLE) -> AbstractContextManager[Output]:
    """A stream to the file, or to standard output: of bytes if the format is binary.

    Raises OSError, which names the file. What is written goes to a file beside `path`, which
    replaces it at the end; after a failure nothing has changed. A program that reads standard
    output gets all or nothing, a terminal gets it line by line. What is no regular file, such as a
    pipe, is written directly. A file whose name ends in `.gz` is packed.
    """
    if path is None and sys.stdout.isatty() and not form.is_binary:
        return nullcontext(sys.stdout)
    return _stream(path, form)


@contextmanager
def _stream(path: Path | None, form: Format) -> Iterator[Output]:
    with _bytes(path) as raw, io.BufferedWriter(raw, _BUFFER) as buffered:
        if form.is_binary and raw.isatty():
            raise InvalidInput([f"{form} is not for a terminal: give --out FILE"])
        packed = path is not None and path.name.lower().endswith(PACKED)
        with _packing(buffered) if packed else nullcontext(buffered) as whole:
            if form.is_binary:
                yield cast(BinaryIO, whole)
                return
            encoding = "utf-8" if raw.isatty() else form.encoding
            # Half a character, which no encoding has, is shown as JSON would escape it.
            errors = "backslashreplace"
            with io.TextIOWrapper(whole, encoding, errors, newline="") as text:
                yield text


def _packing(stream: BinaryIO) -> gzip.GzipFile:
    """The same content gives the same bytes: neither a time nor a name is among them."""
    return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=stream, mtime=0)


@contextmanager
def _bytes(path: Path | None) -> Iterator["_Named"]:
    """Where the bytes go; what was written is put in its place at the end."""
    if path is None:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+b") as whole:
            yield _Named(whole, tempfile.gettempdir())
            whole.seek(0)
            with _naming("standard output"):
                shutil.copyfileobj(whole, sys.stdout.buffer)
                sys.stdout.flush()
    elif path.exists() and not path.is_file():
        with path.open("wb", buffering=0) as stream:
            yield _Named(stream, str(path))
    else:
        with _part_of(path) as part:
            yield _Named(part, str(path))


@contextmanager
def _part_of(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path`, which replaces it at the end."""
    target = path.resolve()  # a link stays a link
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))
    try:
        with _naming(str(path)):
            stream = part.open("wb", buffering=0)
        with stream:
            yield stream
            with _naming(str(path)):
                os.fsync(stream.fileno())  # some disks are full only now
        if target.exists():
            shutil.copymode(target, part)
        with _naming(str(path)):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


class _Named(io.RawIOBase):
    """Bytes to a stream. An error names the file that was asked for."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, data: Buffer, /) -> int:
        with _naming(self._name):
            return self._stream.write(data)

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def isatty(self) -> bool:
        return self._stream.isatty()


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        exc.filename = name
        raise


def page_terms(query: Query, options: argparse.Namespace) -> PageTerms | None:
    """The terms of a page, if that is the format."""
    if options.format is not Format.HTML:
        return None
    return PageTerms(query=query, budget=options.budget, version=program_version())
