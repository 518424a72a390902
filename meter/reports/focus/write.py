"""Writes charges as a FOCUS file (CSV), while they are made."""

from collections.abc import AsyncIterator
from typing import TextIO

from meter.reports.focus.charge import FocusCharge
from meter.reports.focus.columns import focus_columns, values_of
from meter.reports.focus.terms import FocusTerms
from meter.reports.write.csv import csv_line


async def write_charges(
    charges: AsyncIterator[FocusCharge], terms: FocusTerms, out: TextIO
) -> None:
    """Write the rows; nothing before the first one is there, or known to be missing."""
    is_terminal = out.isatty()
    columns = focus_columns(terms.version, terms.billing_account)
    head = csv_line([column.name for column in columns], is_terminal=is_terminal)
    async for charge in charges:
        line = csv_line(values_of(charge, columns), is_terminal=is_terminal)
        out.writelines((head, line))
        head = ""
    out.write(head)
