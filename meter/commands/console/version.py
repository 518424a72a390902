"""The program's version."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "aoai-meter"
_PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def program_version() -> str:
    """That of the clone whose code runs, else that of the installed package."""
    try:
        project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
        if project["name"] == NAME:
            return str(project["version"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"
