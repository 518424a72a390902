"""How the program ends: its exit code says what became of its output."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from meter.commands.console.streams import ended
from tests.support.running import REPOSITORY


def interrupted() -> int:
    raise KeyboardInterrupt


def failed() -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("program", "code", "error"),
    [
        (lambda: 0, 0, ""),
        (lambda: 1, 1, ""),
        (interrupted, 130, "interrupted\n"),
        (failed, 1, "error: standard output: No space left on device\n"),
    ],
    ids=["success", "failure", "interrupted", "full"],
)
def test_the_exit_code_is_that_of_the_shell(
    program: Callable[[], int], code: int, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback."""
    assert ended(program) == code
    assert capsys.readouterr().err == error


def test_a_reader_that_takes_one_line_ends_a_long_output_quietly() -> None:
    """As `| head -1` does: 141, and nothing on standard error."""
    process = subprocess.Popen(
        [sys.executable, "-c", LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()

    assert first == b"line\n"
    assert (process.wait(), error) == (141, b"")


LONG = """
import sys
from meter.commands.console.streams import ended

def program():
    for _ in range(200_000):
        print("line")
    return 0

sys.exit(ended(program))
"""
