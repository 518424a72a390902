"""The arguments of `subjects` and its actions."""

from argparse import Namespace
from enum import StrEnum
from pathlib import Path

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import add_output, reader
from meter.reports.subjects.entry import EDITABLE
from meter.reports.subjects.file import MOST_TEXT_CHARS
from meter.reports.write.formats import SUBJECTS_FORMATS
from meter.usage import MAX_SUBJECT_CHARS, is_writable


class Missing(StrEnum):
    """What may not be known of a subject."""

    TEAM = "team"
    COST_CENTRE = "cost_centre"
    NAME = "name"


def add_parser(commands: Commands) -> None:
    """Add the actions and their arguments."""
    parser = commands.add_parser(
        "subjects",
        description="Names, teams and cost centres of subjects, by which reports are grouped. Past "
        "months follow, too: they are joined when a report is made.",
        examples=("subjects list --missing team", "subjects set alice --team research"),
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_list(actions)
    _add_set(actions)
    _add_import(actions)
    _add_export(actions)


def _add_list(actions: Commands) -> None:
    text = "list subjects, with their names, teams and cost centres"
    parser = actions.add_parser(
        "list",
        help=text,
        description=f"{text.capitalize()}.",
        examples=("subjects list --missing team", "subjects list --out subjects.json"),
    )
    parser.add_argument("--team", metavar="TEAM", help="only those of this team")
    parser.add_argument(
        "--missing",
        choices=[each.value for each in Missing],
        help="only those of which this is not known",
    )
    add_output(parser, SUBJECTS_FORMATS)
    parser.set_defaults(run=lambda options: _list(parser, options))


def _add_set(actions: Commands) -> None:
    parser = actions.add_parser(
        "set",
        help="set what is known of one subject",
        description="Sets the display name, team or cost centre of one subject; what is not given stays. "
        "A subject that has not called yet may be prepared.",
        examples=("subjects set alice@contoso.example --team research --cost-centre 4711",),
        exit_codes={0: "set, or so before", 1: "settings or storage failed"},
    )
    parser.add_argument(
        "subject", metavar="SUBJECT", type=reader(_subject), help="as reports have it, exactly"
    )
    for column in EDITABLE:
        words = column.replace("_", " ")
        parser.add_argument(
            f"--{column.replace('_', '-')}",
            dest=column,
            type=reader(_text),
            metavar="TEXT",
            help=f"its {words}; '' clears it",
        )
    parser.set_defaults(writes=True, run=lambda options: _set(parser, options))


def _add_import(actions: Commands) -> None:
    parser = actions.add_parser(
        "import",
        help="take names, teams and cost centres from a CSV file",
        description="Takes display_name, team and cost_centre from a CSV file with a header line and a "
        "column subject. What the file does not have stays. Nothing is written unless the whole file is "
        "valid; after an interruption, import it again.",
        examples=("subjects import subjects.csv --dry-run", "subjects import subjects.csv"),
        exit_codes={0: "imported", 1: "the file is refused, or storage failed"},
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE.csv", help="UTF-8; commas or semicolons between cells"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list what would change, without writing"
    )
    parser.add_argument(
        "--clear-empty",
        action="store_true",
        help="empty cells clear what is stored (default: they leave it)",
    )
    parser.set_defaults(writes=True, run=_import)


def _add_export(actions: Commands) -> None:
    parser = actions.add_parser(
        "export",
        help="write all subjects to a CSV file, to be edited and imported",
        description="Writes all subjects as CSV: edit display_name, team and cost_centre in any "
        "spreadsheet, and import the file. Imported unchanged, it changes nothing.",
        examples=("subjects export --out subjects.csv",),
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv", help="write to this file (default: standard output)"
    )
    parser.set_defaults(run=_export)


def _subject(text: str) -> str:
    if not 0 < len(text) <= MAX_SUBJECT_CHARS or not is_writable(text):
        raise ValueError(f"a subject has 1 to {MAX_SUBJECT_CHARS} characters, got {text!r:.60}")
    return text


def _text(text: str) -> str:
    if len(text.strip()) > MOST_TEXT_CHARS or not is_writable(text):
        raise ValueError(f"must be a text of up to {MOST_TEXT_CHARS:,} characters")
    return text.strip()


def _list(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.subjects.showing import list_subjects

    return list_subjects(parser, options)


def _set(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.subjects.changing import set_subject

    return set_subject(parser, options)


def _import(options: Namespace) -> int:
    from meter.commands.subjects.changing import import_subjects

    return import_subjects(options)


def _export(options: Namespace) -> int:
    from meter.commands.subjects.showing import export_subjects

    return export_subjects(options)
