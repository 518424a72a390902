"""`make focus-validate`: the official validator on the example files.

It exits with 0 whatever fails, so its list of results is read. InvoiceId-C-004-C and -005-C ask of every
row, whatever it is, that InvoiceId is null and that it is not: one of them fails for any file.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from meter.reports.focus.version import FocusVersion
from tests.focus.example import example_invoice, example_report

RULES = "1.2.0.1"  # the validator has none of 1.4 yet
CANNOT_HOLD = frozenset({"InvoiceId-C-005-C"})
# All that it knows but for commitment discounts and capacity reservations, which nothing here has.
SUPPORTED = (
    "ACCOUNT_NAMING_SUPPORTED",
    "AVAILABILITY_ZONE_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "REGION_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
    "VIRTUAL_CURRENCY_SUPPORTED",
)
_COUNTS = re.compile(r"^Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^\S+ (\S+): FAIL\b", re.MULTILINE)
_LONGEST_RUN_SECONDS = 600


class Results(NamedTuple):
    """What the validator found: how many rules hold, and the names of those that do not."""

    passed: int
    failed: frozenset[str]


def results_of(output: str) -> Results:
    """What its output lists. Raises ValueError if it is no list, or does not have as many as it says."""
    counts = _COUNTS.search(output)
    if counts is None:
        raise ValueError("the validator gave no results")
    failed = frozenset(_FAILED.findall(output))
    if len(failed) != int(counts[3]):
        raise ValueError(f"{counts[3]} rules failed, but {len(failed)} are listed")
    return Results(int(counts[2]), failed)


def main(words: Sequence[str]) -> int:
    """Validate the files, and say what fails beside what cannot hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.focus.validate")
    parser.add_argument("--python", type=Path, required=True, help="of the validator's environment")
    python = parser.parse_args(words).python
    is_valid = True
    with tempfile.TemporaryDirectory() as folder:
        for file in asyncio.run(_write_files(Path(folder))):
            found = results_of(_validated(python.absolute(), file))
            print(
                f"{file.name}: {found.passed} rules hold; fail: {', '.join(sorted(found.failed))}"
            )
            is_valid = is_valid and found.failed == CANNOT_HOLD
    print("valid, but for what cannot hold" if is_valid else "not valid")
    return 0 if is_valid else 1


async def _write_files(folder: Path) -> list[Path]:
    files = {
        "report.csv": await example_report(FocusVersion.V1_2),
        "invoice.csv": await example_invoice(FocusVersion.V1_2, folder),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]


def _validated(python: Path, file: Path) -> str:
    """What the validator prints. It reads files of its package relative to the folder it runs in."""
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    options = {
        "--data-file": str(file),
        "--validate-version": RULES,
        "--applicability-criteria": ",".join(SUPPORTED),
    }
    words = [word for option in options.items() for word in option]
    done = subprocess.run(
        [str(python), "-m", "focus_validator.main", "--block-download", *words],
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=_LONGEST_RUN_SECONDS,
    )
    if done.returncode:
        raise SystemExit(f"the validator ended with {done.returncode}:\n{done.stderr[-2_000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
