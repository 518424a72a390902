"""Regular expressions that are compiled when they are first used.

Python compiles an expression in 0.2 to 8 ms. The front door has about a hundred, and a start needs few of
them to answer its first call: compiling them all was 8 % of the imports' CPU time.
"""

import re
from typing import Any, cast


class _Lazy:
    """Stands for a pattern. Its methods, once looked up, are the pattern's own."""

    def __init__(self, pattern: Any, flags: int) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(*self._source), name)
        setattr(self, name, found)
        return found


def lazy_pattern[Text: (str, bytes)](pattern: Text, flags: int = 0) -> re.Pattern[Text]:
    """As `re.compile`, for a pattern that lives as long as its module.

    A mistake in it shows at its first use, as `re.error`.
    """
    return cast("re.Pattern[Text]", _Lazy(pattern, flags))
