"""Lists names, and suggests one that may be meant, for messages."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def suggestion(word: str, known: Iterable[str]) -> str:
    """A question whether a similar name is meant, in any case; empty if there is none."""
    by_folded = {each.casefold(): each for each in known}
    close = get_close_matches(word.casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def listed(names: Sequence[str]) -> str:
    """The names as one says them: `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
