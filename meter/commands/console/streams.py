"""Ends a program as its reader expects: all output is out, or the reason why not is the exit code."""

import os
import sys
from collections.abc import Callable

from meter.terminal import printable

INTERRUPTED, CLOSED_PIPE = 130, 141  # 128 and the number of the signal, as shells have it


def ended(program: Callable[[], int]) -> int:
    """The exit code of the program, once everything that it wrote is out.

    A reader that stopped reading (`| head -1`) ends it without a word, as it does usual tools.
    """
    if sys.stdout is None or sys.stderr is None:  # the parent process closed it
        return 1
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that an old code page lacks
    try:
        try:
            return program()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as exc:
        _drop_output()
        print(f"error: {printable(f'standard output: {exc.strerror or exc}')}", file=sys.stderr)
        return 1


def _drop_output() -> None:
    """Have the interpreter's last flush go nowhere, instead of failing once more.

    Source: note on SIGPIPE, https://docs.python.org/3/library/signal.html.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # no file of the system's, as in a test
        pass
    finally:
        os.close(nowhere)
