"""The program's version."""

from meter import __version__

NAME = "aoai-meter"


def program_version() -> str:
    """That of the code that runs."""
    return __version__
