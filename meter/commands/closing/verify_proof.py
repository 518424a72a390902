"""`python -m meter verify-proof`: checks a proof of `prove`, without any access."""

import argparse

from meter.terminal import printable
from meter.upkeep.closing.proof import MAX_PROOF_BYTES, Proof, check_proof


def run(options: argparse.Namespace) -> int:
    """Check the proof."""
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
