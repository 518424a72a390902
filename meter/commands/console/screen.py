"""What a stream is to its reader: a terminal with a width and perhaps colours, or a pipe."""

import os
from importlib.util import find_spec
from typing import TextIO, cast

from meter.reports.write.formats import Format
from meter.reports.write.report import Output
from meter.terminal.plain import NARROWEST, PlainScreen
from meter.terminal.table import Screen

USUAL_WIDTH = 80


def screen_on(out: TextIO) -> Screen:
    """A pipe gets plain text of any width; a terminal what fits, with rich in bold and dim.

    `NO_COLOR`, `TERM=dumb` and a Python without the extra `cli` leave plain text on a terminal, too.
    """
    width = width_of(out)
    if width is None or not has_styles() or find_spec("rich") is None:
        return PlainScreen(out, width)
    from meter.commands.console.styled import StyledScreen  # rich takes long to import

    return StyledScreen(out, width)


def table_screen(form: Format, out: Output) -> Screen | None:
    """The screen of a command's output, if that is a table."""
    return screen_on(cast(TextIO, out)) if form is Format.TABLE else None


def width_of(out: TextIO) -> int | None:
    """The cells of a line of the terminal, or `COLUMNS`; None if it is no terminal."""
    if not out.isatty():
        return None
    try:
        named = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        named = 0
    if named > 0:
        return max(named, NARROWEST)
    try:
        return max(os.get_terminal_size(out.fileno()).columns or USUAL_WIDTH, NARROWEST)
    except (OSError, ValueError):
        return USUAL_WIDTH


def is_overwritable(out: TextIO) -> bool:
    """Whether a line can be written over the one before."""
    return out.isatty() and os.environ.get("TERM") != "dumb"


def has_styles() -> bool:
    """Whether the user's terminal shows styles and the user wants them (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    # Windows' own terminals have styles, and no TERM.
    return (os.environ.get("TERM") or "dumb") != "dumb" or os.name == "nt"
