"""Shows with rich what plain text shows: the same lines, heads and totals in bold, rules dim."""

from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.text import Text

from meter.terminal.plain import Role, lines_of
from meter.terminal.table import Piece

_STYLES = {
    Role.TEXT: "",
    Role.HEAD: "bold",
    Role.RULE: "dim",
    Role.ROW: "",
    Role.LAST: "bold",
    Role.REMARK: "dim",
}


@dataclass(frozen=True, slots=True)
class StyledScreen:
    """A terminal of `width` cells that shows styles."""

    out: TextIO
    width: int

    def show(self, *pieces: Piece) -> None:
        """Write the pieces, one below the other."""
        console = Console(file=self.out, width=self.width)
        for piece in pieces:
            for line, role in lines_of(piece, self.width):
                # A `Text` has no markup, and a soft wrap neither cuts nor pads it.
                console.print(Text(line, style=_STYLES[role]), soft_wrap=True)
