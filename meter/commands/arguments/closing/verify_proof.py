"""The arguments of `verify-proof`."""

import re
from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import Commands
from meter.commands.options import reader

_ROOT = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "verify-proof",
        description="Checks that a proof shows its call to be in the closed total of its month, "
        "once. Without --root it is only shown to be of the root that is printed.",
        examples=(
            "verify-proof proof.json --root "
            "4f0c2b7a9d1e3c5f7a8b6d4e2f0a1c3b5d7e9f8a6c4b2d0e1f3a5c7b9d8e6f40",
        ),
        exit_codes={0: "it does", 1: "it does not, or there is no such file"},
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="as written by `prove`")
    parser.add_argument(
        "--root",
        type=reader(_root),
        help="the month's root, as it was published when it was closed",
    )
    parser.set_defaults(run=_run)


def _root(text: str) -> str:
    if not _ROOT.fullmatch(text):
        raise ValueError(f"takes 64 hexadecimal digits, got {text!r}")
    return text.lower()


def _run(options: Namespace) -> int:
    from meter.commands.closing.verify_proof import run

    return run(options)
