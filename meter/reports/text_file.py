"""Tells text files in UTF-8 from what people take for them.

Files are decoded with `surrogateescape`, so that a reader can name the line of what is not UTF-8.
"""

import re
from typing import Protocol

_NOT_UTF_8 = re.compile(r"[\udc80-\udcff]")  # bytes, as `surrogateescape` decodes them
# How files begin that people take for CSV; bytes beyond ASCII as `surrogateescape` decodes them.
_OTHER_FILES = (
    ("\x1f\udc8b", "gzip: unpack it first"),
    ("PK\x03\x04", "a workbook or a zip file: save it as CSV in UTF-8"),
    ("PAR1", "Parquet: save it as CSV in UTF-8"),
    ("\udcff\udcfe", "UTF-16: save it as CSV in UTF-8"),
    ("\udcfe\udcff", "UTF-16: save it as CSV in UTF-8"),
)


class Lines(Protocol):
    """A text file: UTF-8, with `surrogateescape` for other bytes, and with its own line ends."""

    def readline(self, size: int = -1, /) -> str:
        """The rest of the line, or its next `size` characters; empty at the end."""


def not_text(first_line: str) -> str:
    """What a file is that begins so, in place of CSV in UTF-8; empty where it may be that."""
    for beginning, what in _OTHER_FILES:
        if first_line.startswith(beginning):
            return f"is {what}"
    if "\0" in first_line:
        return "has a NUL byte: save the file as CSV in UTF-8"
    return ""


def undecodable(line: str) -> str:
    """What is wrong with a line that is not UTF-8; empty where it is."""
    if not line.isascii() and (other := _NOT_UTF_8.search(line)):
        return f"is not UTF-8 (byte 0x{ord(other[0]) - 0xDC00:02x}): save the file as CSV in UTF-8"
    return ""
