"""`python -m meter prices`: fills a price book, and checks it. One module per action."""

import argparse

from meter.commands.prices import check, importing


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions and their arguments."""
    parser = commands.add_parser(
        "prices", description="Fills a price book, and checks it against a month's usage."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    importing.add_parser(actions)
    check.add_parser(actions)
