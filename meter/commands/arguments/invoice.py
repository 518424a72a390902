"""The arguments of `invoice`."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import (
    add_capacity,
    add_focus,
    add_output,
    reader,
    window_of_periods,
)
from meter.reports.invoice.columns import Metric
from meter.reports.query import INVOICE_GROUPS, Grouping, parse_groups
from meter.reports.write.formats import INVOICE_FORMATS
from meter.window import Period


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "invoice",
        description="Splits the cost of the backends' accounts, as Azure's cost exports have it, by "
        "counted usage. The lines sum to the export, to the last digit.",
        examples=(
            "invoice --month 2026-10 --export part_0.csv part_1.csv --group team",
            "invoice --month 2026-10 --export costs.csv.gz --format csv --out split.csv",
        ),
        exit_codes={0: "written", 1: "an input, settings, storage or the output failed"},
    )
    _add_inputs(command)
    command.add_argument(
        "--group",
        type=reader(parse_groups),
        metavar="NAMES",
        help=f"any of {', '.join(Grouping)}; comma-separated (default: all; in a table: "
        f"{','.join(INVOICE_GROUPS)})",
    )
    add_output(command, INVOICE_FORMATS)
    add_focus(command)
    command.set_defaults(run=lambda options: _run(command, options))


def _add_inputs(command: CommandParser) -> None:
    command.add_argument(
        "--export",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="cost exports: usage details or FOCUS, as CSV, gzipped CSV or Parquet",
    )
    command.add_argument(
        "--month",
        type=window_of_periods((Period.MONTH,)),
        required=True,
        metavar="MONTH",
        help="the month to split: YYYY-MM (UTC)",
    )
    command.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="CSV that says what meters charge for: meter_id or meter_name, kind, model, unit, and "
        "optional deployment_type, tier, context",
    )
    add_capacity(command)
    command.add_argument(
        "--cost",
        choices=[metric.value for metric in Metric],
        default=Metric.BILLED.value,
        help="which cost of a FOCUS export (default: billed)",
    )


def _run(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.invoice import run

    return run(parser, options)
