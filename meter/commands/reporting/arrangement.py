"""What the options ask of a report's rows."""

import argparse

from meter.commands.console.parser import CommandParser
from meter.ports import RowStore
from meter.reports.arrange.arrange import Arrangement, ColumnError, check_columns
from meter.reports.arrange.names import SubjectNames
from meter.reports.owners import read_owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Grouping, Query
from meter.reports.write.formats import Format

_WHOLE = {
    Format.FOCUS: "it lists every charge in the columns of its specification",
    Format.HTML: "the page sorts, filters and hides by itself",
}


def arrangement_of(
    parser: CommandParser, options: argparse.Namespace, query: Query, book: PriceBook | None
) -> Arrangement:
    """The columns, order and number of rows that are wanted. Exits with 2 if they cannot be."""
    form: Format = options.format
    wanted = Arrangement(
        columns=options.columns,
        sort=options.sort,
        top=options.top,
        is_for_people=form is Format.TABLE,
    )
    for name in ("columns", "sort", "top"):
        if getattr(options, name) is not None and not form.lists_rows:
            parser.error(f"argument --{name}: does not go with --format {form}: {_WHOLE[form]}")
    try:
        check_columns(wanted, query, None if book is None else book.currency)
    except ColumnError as exc:
        parser.error(f"argument --{exc.option}: {exc}")
    return wanted


async def names_for(store: RowStore, query: Query, form: Format) -> SubjectNames | None:
    """What people call the subjects, in the table for people."""
    if form is not Format.TABLE or Grouping.SUBJECT not in query.groups:
        return None
    return SubjectNames(await read_owners(store))
