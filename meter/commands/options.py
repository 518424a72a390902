"""The options that several commands take, and how their texts become values."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from meter.reports.focus.version import UNKNOWN_ACCOUNT, FocusVersion
from meter.reports.pricing.cells import parse_currency
from meter.reports.write.formats import Format
from meter.usage import is_writable
from meter.window import Period, Window, parse_window

_FORMS = {Period.MONTH: "YYYY-MM", Period.DAY: "YYYY-MM-DD", Period.HOUR: "YYYY-MM-DDTHH"}


def reader[T](read: Callable[[str], T]) -> Callable[[str], T]:
    """The function as an option's type: its ValueError becomes the message about the option."""

    def read_option(text: str) -> T:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return read_option


def window_of_periods(periods: Sequence[Period]) -> Callable[[str], Window]:
    """An option's type: a window of one of the periods."""

    def read(text: str) -> Window:
        window = parse_window(text)
        if window.period not in periods:
            raise ValueError(f"takes {_forms(periods)}, got {text!r}")
        return window

    return reader(read)


def subject_of_token(text: str) -> str:
    """A subject, as a token can have it. Raises ValueError."""
    if not text or not is_writable(text):
        raise ValueError(f"takes the subject of a token, got {text!r}")
    return text


def add_range(
    parser: "argparse.ArgumentParser | argparse._ArgumentGroup",
    *,
    first_default: str,
    last_default: str,
    periods: Sequence[Period] = tuple(_FORMS),
) -> None:
    """Add `--from` and `--to`, read as `first` and `last`."""
    read = window_of_periods(periods)
    start = f"start, inclusive (UTC): {_forms(periods)}; default: {first_default}"
    end = f"end, inclusive (UTC); default: {last_default}"
    parser.add_argument("--from", dest="first", type=read, metavar="TIME", help=start)
    parser.add_argument("--to", dest="last", type=read, metavar="TIME", help=end)


def add_prices(
    parser: argparse.ArgumentParser, *, purpose: str = "adds what the usage costs"
) -> None:
    """Add `--prices`, the files of one price book in their order, and `--currency`."""
    parser.add_argument(
        "--prices",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help=f"the files of a price book (CSV): {purpose}; where two are equal, the later one wins",
    )
    add_currency(parser)


def add_currency(parser: argparse.ArgumentParser) -> None:
    """Add `--currency`."""
    parser.add_argument(
        "--currency",
        type=reader(parse_currency),
        metavar="CODE",
        help="the prices to take from a book that has several currencies, such as EUR",
    )


def add_capacity(parser: argparse.ArgumentParser) -> None:
    """Add `--capacity`, one file."""
    parser.add_argument(
        "--capacity",
        type=Path,
        metavar="FILE",
        help="provisioned capacity (TOML): shares its cost among those who use it",
    )


def add_format(parser: argparse.ArgumentParser, formats: Sequence[Format]) -> None:
    """Add `--format`; the default is a table."""
    parser.add_argument(
        "--format",
        choices=[form.value for form in formats],
        default=Format.TABLE.value,
        help="how the output is written (default: table)",
    )


def add_output(parser: argparse.ArgumentParser, formats: Sequence[Format]) -> None:
    """Add `--format` and `--out`, to be read with `output.chosen_format`."""
    parser.add_argument(
        "--format",
        choices=[form.value for form in formats],
        metavar="FORMAT",
        help=f"{', '.join(formats)} (default: as the ending of --out says, else table)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write to this file, packed if it ends in .gz (default: standard output)",
    )
    parser.set_defaults(formats=tuple(formats))


def add_focus(parser: argparse.ArgumentParser) -> None:
    """Add what a FOCUS file needs: `--focus-version` and `--billing-account`."""
    parser.add_argument(
        "--focus-version",
        choices=[version.value for version in FocusVersion],
        default=FocusVersion.V1_2.value,
        help="of --format focus: 1.4 has split-cost columns (default: 1.2)",
    )
    parser.add_argument(
        "--billing-account",
        type=reader(_parse_account),
        default=UNKNOWN_ACCOUNT,
        metavar="ID",
        help="of --format focus: the billing account that Azure charges (default: unknown)",
    )


def _parse_account(text: str) -> str:
    if not text.strip():
        raise ValueError("a billing account has an id; got an empty text")
    return text.strip()


def _forms(periods: Sequence[Period]) -> str:
    *others, last = (_FORMS[period] for period in periods)
    return f"{', '.join(others)} or {last}" if others else last
