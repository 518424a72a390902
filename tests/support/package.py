"""Which files are deployed: `.funcignore` as Core Tools reads it, and as azd and editors read it.

Core Tools' rules, found by reading `GitIgnoreParser` in github.com/Azure/azure-functions-core-tools:
patterns are regular expressions from the path's start, which end at a word boundary; a leading `/` is
dropped; `*` is any run without `/`, `**` any run; what a `!` pattern matches is always deployed.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pathspec import GitIgnoreSpec

from tests.support.running import REPOSITORY

NEVER_DEPLOYED = {".funcignore", ".gitignore", "local.settings.json", "project.lock.json"}
FUNCIGNORE = (REPOSITORY / ".funcignore").read_text()

type IsIgnored = Callable[[str], bool]


def core_tools(text: str) -> IsIgnored:
    """The rules of `func azure functionapp publish`."""
    lines = [line.strip() for line in text.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    named = _any_of(line[1:] for line in patterns if line.startswith("!"))
    ignored = _any_of(line for line in patterns if not line.startswith("!"))

    def is_ignored(path: str) -> bool:
        if path.rpartition("/")[2] in NEVER_DEPLOYED or path.startswith((".git/", ".vscode/")):
            return True
        return named.match(path) is None and ignored.match(path) is not None

    return is_ignored


def git(text: str) -> IsIgnored:
    """gitignore(5), which azd and editors follow."""
    spec = GitIgnoreSpec.from_lines(text.splitlines())

    def is_ignored(path: str) -> bool:
        return path in NEVER_DEPLOYED or spec.match_file(path)

    return is_ignored


def deployed(paths: Iterable[str], is_ignored: IsIgnored) -> list[str]:
    """The paths that go along."""
    return sorted(path for path in paths if not is_ignored(path))


def files_of(folder: Path) -> list[str]:
    """The folder's files by relative path, without the environments, which are large."""
    return [
        path.relative_to(folder).as_posix()
        for entry in folder.iterdir()
        if entry.name not in {".venv", "node_modules", ".git"}
        for path in (entry.rglob("*") if entry.is_dir() else [entry])
        if path.is_file()
    ]


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    parts = [
        re.escape(pattern.removeprefix("/")).replace(r"\*\*", "(.+)").replace(r"\*", "([^/]+)")
        for pattern in patterns
    ]
    return re.compile(f"(?:{'|'.join(parts)})\\b")
