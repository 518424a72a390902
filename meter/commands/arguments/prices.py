"""The arguments of `prices` and its actions."""

import re
from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import add_format, add_prices, reader, window_of_periods
from meter.reports.pricing.book import compared_region
from meter.reports.pricing.cells import parse_currency
from meter.reports.write.formats import TABLE_AND_JSON
from meter.window import Period

_REGION = re.compile(r"[a-z][a-z0-9]{1,49}", re.ASCII)


def add_parser(commands: Commands) -> None:
    """Add the actions and their arguments."""
    parser = commands.add_parser(
        "prices",
        description="Fills a price book, and checks it against a month's usage.",
        examples=(
            "prices import --out list.csv --region swedencentral",
            "prices check --month 2026-11 contract.csv list.csv",
        ),
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_import(actions)
    _add_check(actions)


def _add_import(actions: Commands) -> None:
    parser = actions.add_parser(
        "import",
        help="fill a price book with Azure's retail prices",
        description="Fills a price book with Azure's retail prices, without sign-in. Rows that somebody "
        "added stay, and so do prices that held before. Nothing is written unless all was read.",
        examples=(
            "prices import --out list.csv --region swedencentral --currency EUR "
            "--skipped skipped.csv",
            "prices import --out list.csv --from-file saved.json",
        ),
        exit_codes={0: "the book is up to date", 1: "nothing was changed, with the reason"},
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="BOOK.csv",
        help="the price book, made or updated",
    )
    _add_wanted(parser)
    parser.add_argument(
        "--from-file",
        type=Path,
        metavar="FILE",
        help="read saved prices of the API, JSON or CSV, plain or gzip, instead of fetching them",
    )
    parser.add_argument(
        "--skipped", type=Path, metavar="FILE", help="list each skipped row in this CSV file"
    )
    parser.set_defaults(run=_import)


def _add_wanted(parser: CommandParser) -> None:
    """Add the arguments that say which prices to take."""
    parser.add_argument(
        "--region",
        type=reader(_region),
        action="append",
        default=[],
        metavar="REGION",
        help="prices of this region, for example swedencentral; may be repeated (default: all)",
    )
    parser.add_argument(
        "--product",
        type=reader(_product),
        action="append",
        default=[],
        metavar="NAME",
        help="prices of this product, for example 'Azure OpenAI GPT5'; may be repeated (default: all)",
    )
    parser.add_argument(
        "--currency",
        type=reader(parse_currency),
        default="USD",
        metavar="CODE",
        help="prices in this currency (default: USD)",
    )


def _add_check(actions: Commands) -> None:
    parser = actions.add_parser(
        "check",
        help="check a price book against a month's usage",
        description="Lists usage of a month without a price or with several, and rows of the price "
        "book that no usage is charged at.",
        examples=(
            "prices check --month 2026-11 contract.csv list.csv",
            "prices check --month 2026-11 list.csv --format json",
        ),
        exit_codes={
            0: "all usage has one price",
            1: "some has none or several, or the book cannot be read",
        },
    )
    parser.add_argument(
        "--month",
        type=window_of_periods((Period.MONTH,)),
        required=True,
        metavar="YYYY-MM",
        help="the month (UTC) whose usage is checked",
    )
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="as --prices FILE")
    add_prices(parser, purpose="the book to check")
    add_format(parser, TABLE_AND_JSON)
    parser.set_defaults(run=lambda options: _check(parser, options))


def _region(text: str) -> str:
    region = compared_region(text)
    if not _REGION.fullmatch(region):
        raise ValueError(f"must be an Azure region's name, such as swedencentral, got {text!r:.60}")
    return region


def _product(text: str) -> str:
    if not text.strip() or len(text) > 100 or not text.isprintable():
        raise ValueError(f"must be a product's name, such as 'Azure OpenAI GPT5', got {text!r:.60}")
    return text.strip()


def _import(options: Namespace) -> int:
    from meter.commands.prices.importing import run

    return run(options)


def _check(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.prices.check import run

    return run(parser, options)
