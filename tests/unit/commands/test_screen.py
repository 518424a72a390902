"""What a command takes its output for: a terminal of some width, with styles or without, or a pipe."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from meter.commands.console.screen import screen_on, width_of
from meter.terminal.plain import PlainScreen
from tests.support.running import REPOSITORY

SCRIPT = """
import sys
from meter.commands.console.screen import screen_on
from meter.terminal.table import Column, table_of, texts
columns = [*texts("subject"), Column(heading="calls", rank=1), Column(heading="total")]
row = ("1f0c2a4e-36e8-4c71-a0ab-0e211fae68cf", "12", "1,234,567")
screen_on(sys.stdout).show("usage", table_of(columns, [row]))
"""


class Terminal(io.StringIO):
    """A terminal without a size."""

    def isatty(self) -> bool:
        return True


def shown_on_a_terminal(columns: int, **environment: str) -> str:
    """What the script shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=theirs,
        env=inherited | {"TERM": "xterm-256color"} | environment,
        cwd=REPOSITORY,
    )
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 4096):
            parts.append(part)
    except OSError:
        pass  # Linux: how the end of a terminal is told
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("columns", "head"),
    [
        (200, "subject                               calls      total"),
        (80, "subject                               calls      total"),
        (40, "subject                            total"),
        (20, "subject        total"),
        (19, "subject"),
    ],
)
def test_a_terminal_gets_what_fits_its_width(columns: int, head: str) -> None:
    """As wide as the kernel says it is."""
    shown = shown_on_a_terminal(columns, NO_COLOR="1").splitlines()

    assert shown[1] == head
    assert max(map(len, shown)) <= columns


def test_a_terminal_that_shows_styles_gets_bold_and_dim() -> None:
    """Only where rich is installed, as it is here."""
    assert "\x1b[1msubject" in shown_on_a_terminal(80)


@pytest.mark.parametrize(
    "environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}], ids=str
)
def test_a_terminal_without_styles_gets_no_escape(environment: dict[str, str]) -> None:
    """Since it does not show them, or its user does not want them."""
    assert "\x1b" not in shown_on_a_terminal(80, **environment)


def test_columns_in_the_environment_win() -> None:
    """As with other tools."""
    assert "calls" not in shown_on_a_terminal(200, COLUMNS="50", NO_COLOR="1").splitlines()[1]


@pytest.mark.parametrize(
    ("columns", "width"), [("", 80), ("0", 80), ("x", 80), ("-5", 80), ("3", 10), ("132", 132)]
)
def test_a_width_that_makes_no_sense_is_the_usual_one(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal may have no size."""
    monkeypatch.setenv("COLUMNS", columns)

    assert width_of(Terminal()) == width


def test_a_pipe_has_no_width_and_no_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the terminal is that started the command."""
    monkeypatch.setenv("COLUMNS", "20")
    out = io.StringIO()

    assert width_of(out) is None
    assert screen_on(out) == PlainScreen(out, None)
