"""`python -m local.package`: what `func azure functionapp publish` sends, by the rules of `.funcignore`.

Core Tools' rules, found by reading `GitIgnoreParser` in github.com/Azure/azure-functions-core-tools:
patterns are regular expressions from the path's start, which end at a word boundary; a leading `/` is
dropped; `*` is any run without `/`, `**` any run; what a `!` pattern matches is always deployed.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

NEVER_DEPLOYED = {".funcignore", ".gitignore", "local.settings.json", "project.lock.json"}
_NOT_LOOKED_INTO = {".venv", "node_modules", ".git"}

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


def deployed(paths: Iterable[str], is_ignored: IsIgnored) -> list[str]:
    """The paths that go along."""
    return sorted(path for path in paths if not is_ignored(path))


def files_of(folder: Path) -> list[str]:
    """The folder's files by relative path, without the environments, which are large."""
    return [
        path.relative_to(folder).as_posix()
        for entry in folder.iterdir()
        if entry.name not in _NOT_LOOKED_INTO
        for path in (entry.rglob("*") if entry.is_dir() else [entry])
        if path.is_file()
    ]


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    parts = [
        re.escape(pattern.removeprefix("/")).replace(r"\*\*", "(.+)").replace(r"\*", "([^/]+)")
        for pattern in patterns
    ]
    return re.compile(f"(?:{'|'.join(parts)})\\b")


def main(folder: Path) -> None:
    """Print each file with its size in bytes, and their sum."""
    paths = deployed(files_of(folder), core_tools((folder / ".funcignore").read_text()))
    sizes = {path: (folder / path).stat().st_size for path in paths}
    for path, size in sizes.items():
        print(f"{size:>9,}  {path}")
    print(
        f"{sum(sizes.values()):>9,}  bytes in {len(paths)} files; packages come from requirements.txt"
    )


if __name__ == "__main__":
    main(Path.cwd())
