"""`python -m meter subjects`: names, teams and cost centres of subjects. One module per kind of action."""

import argparse

from meter.commands.subjects import changing, showing


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions and their arguments."""
    parser = commands.add_parser(
        "subjects",
        description="Names, teams and cost centres of subjects, by which reports are grouped. Past "
        "months follow, too: they are joined when a report is made.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    showing.add_list(actions)
    changing.add_set(actions)
    changing.add_import(actions)
    showing.add_export(actions)
