"""Which files are deployed: `.funcignore` as Core Tools reads it, and as azd and editors read it."""

from pathspec import GitIgnoreSpec

from local.package import NEVER_DEPLOYED, IsIgnored
from tests.support.running import REPOSITORY

FUNCIGNORE = (REPOSITORY / ".funcignore").read_text()


def git(text: str) -> IsIgnored:
    """gitignore(5), which azd and editors follow."""
    spec = GitIgnoreSpec.from_lines(text.splitlines())

    def is_ignored(path: str) -> bool:
        return path in NEVER_DEPLOYED or spec.match_file(path)

    return is_ignored
