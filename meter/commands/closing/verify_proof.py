"""`python -m meter verify-proof`: checks a proof of `prove`, without any access."""

import argparse
import re
from pathlib import Path

from meter.commands.options import reader
from meter.terminal import printable
from meter.upkeep.closing.proof import MAX_PROOF_BYTES, Proof, check_proof

_ROOT = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "verify-proof",
        description="Checks that a proof shows its call to be in the closed total of its month, "
        "once. Without --root it is only shown to be of the root that is printed. Exit code 0: it "
        "does; 1: it does not, or there is no such file; 2: invalid arguments.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="as written by `prove`")
    parser.add_argument(
        "--root",
        type=reader(_root),
        help="the month's root, as it was published when it was closed",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with options.file.open("rb") as file:
        proof = check_proof(file.read(MAX_PROOF_BYTES + 1), root=options.root)
    print(_summary(proof, is_of_published=options.root is not None))
    return 0


def _summary(proof: Proof, *, is_of_published: bool) -> str:
    leaf, header = proof.leaf, proof.header
    totals = header.totals
    lines = [
        f"{leaf['id']} of subject {printable(str(leaf['subject']))} is in the closed total of "
        f"{header.month.name} once",
        f"  total: {totals.get('calls', 0):,} calls, {totals.get('adjustments', 0):,} adjustments, "
        f"{totals.get('total_tokens', 0):,} tokens",
        f"  root: {header.root}",
    ]
    if not is_of_published:
        lines.append("  compare the root with the published one, or give that as --root")
    return "\n".join(lines)


def _root(text: str) -> str:
    if not _ROOT.fullmatch(text):
        raise ValueError(f"takes 64 hexadecimal digits, got {text!r}")
    return text.lower()
