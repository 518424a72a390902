"""The example that the official validator gets, and how its results are read."""

from pathlib import Path

import pytest

from meter.reports.focus.version import FocusVersion
from tests.focus.example import example_invoice, example_report
from tests.focus.validate import Results, results_of
from tests.support.focus import rows_of
from tests.support.focus_spec import problems_of

OUTPUT = """
=== Validation Results ===
Total: 4 | Pass: 1 | Fail: 2 | Skipped: 1
⏭️ AvailabilityZone-C-000-C: SKIPPED  (violations=0, reason=rule not applicable)
✅ BilledCost-C-001-M: PASS  (violations=0, 2.1ms)
❌ InvoiceId-C-005-C: FAIL  (violations=10, msg=InvoiceId MUST NOT be NULL., 14.8ms)
❌ SkuId-C-004-C: FAIL  (violations=1, msg=the rule will FAIL: FAIL)

--- Failures ---
- InvoiceId-C-005-C: violations=10; InvoiceId MUST NOT be NULL.
"""


@pytest.mark.parametrize("version", FocusVersion)
async def test_the_example_report_is_as_the_specification_asks(version: FocusVersion) -> None:
    """With corrections, negative quantities, capacity and prices of contracts in it."""
    text = await example_report(version)

    assert problems_of(text, version) == []
    assert {row["ChargeClass"] for row in rows_of(text)} == {"", "Correction"}
    assert {row["x_PriceOrigin"] for row in rows_of(text)} == {"", "contracted", "list"}
    assert {row["ConsumedUnit"] for row in rows_of(text)} == {
        "PTU-Hours",
        "Requests",
        "Seconds",
        "Tokens",
    }


@pytest.mark.parametrize("version", FocusVersion)
async def test_the_example_invoice_is_as_the_specification_asks(
    version: FocusVersion, tmp_path: Path
) -> None:
    """With all categories of charges in it."""
    text = await example_invoice(version, tmp_path)

    assert problems_of(text, version) == []
    assert {row["ChargeCategory"] for row in rows_of(text)} == {
        "Usage",
        "Purchase",
        "Tax",
        "Credit",
        "Adjustment",
    }


def test_the_validators_results_are_read() -> None:
    """Rules by name, each once."""
    assert results_of(OUTPUT) == Results(1, frozenset({"InvoiceId-C-005-C", "SkuId-C-004-C"}))


@pytest.mark.parametrize(
    ("output", "problem"),
    [("Total:", "no results"), (OUTPUT.replace("Fail: 2", "Fail: 3"), "but 2 are listed")],
)
def test_results_that_cannot_be_read_are_no_success(output: str, problem: str) -> None:
    """It exits with 0 in any case, so silence must not pass for a valid file."""
    with pytest.raises(ValueError, match=problem):
        results_of(output)
