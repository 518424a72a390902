"""Reads the budget of a page, apart from what a page imports: `--help` answers at once."""

import re
from decimal import Decimal

_AMOUNT = re.compile(r"\d{1,15}(\.\d{1,6})?", re.ASCII)


def parse_budget(text: str) -> Decimal:
    """Read an amount above 0. Raises ValueError that says what is accepted."""
    if not _AMOUNT.fullmatch(text) or not Decimal(text):
        raise ValueError(f"a budget is an amount above 0, such as 5000 or 4999.50; got {text!r}")
    return Decimal(text)
