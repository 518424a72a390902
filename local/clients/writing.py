"""Writes the runs as a table, for a terminal and as a page."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local.clients.cases import Case

HEADINGS = ("client", "version", "asked", "showed", "seconds", "events", "ok")
_PAGE = """\
# Clients that were run

What real clients did against the local stack on {day}: `make clients` installs them from npm in the
versions of `local/clients/package-lock.json`, runs each unmodified with the settings of
[calling](calling.md#coding-agents), and writes this page. {system} {machine}, Node {node}. No
account{network}.

- *events* is what the tables counted for the run's own subject: each call that a backend served, once.
- *ok*: the client ended by itself, showed what was expected, and the events equal the backends' record.
- *after 429*: both backends throttle the first call, with `Retry-After: 2`.

{table}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A run as the table shows it."""

    case: Case
    version: str
    shown: str
    seconds: str
    events: str
    ok: str = "-"

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of the headings."""
        program, ask = self.case.program.name, str(self.case.ask)
        return program, self.version, ask, self.shown, self.seconds, self.events, self.ok


def table(lines: Sequence[Line]) -> str:
    """A table for a terminal."""
    rows = [HEADINGS, *(line.cells for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_page(path: Path, lines: Sequence[Line], *, is_alone: bool) -> None:
    """Write the page."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS)]
    rows += [tuple(map(_cell, line.cells)) for line in lines]
    text = _PAGE.format(
        day=datetime.now(UTC).date(),
        system=platform.system(),
        machine=platform.machine(),
        node=subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip(),
        network=", and no network but loopback" if is_alone else "",
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
    )
    path.write_text(text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
