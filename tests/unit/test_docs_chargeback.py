"""docs/chargeback.md shows what other tests recompute."""

import pytest

from tests.integration.test_invoice_command import TABLE as SPLIT
from tests.support.running import REPOSITORY
from tests.unit.reports.capacity.test_example import FILE as CAPACITY
from tests.unit.reports.test_chargeback_example import TABLE as CHARGEBACK


@pytest.mark.parametrize(
    "example", [CHARGEBACK, SPLIT, CAPACITY.decode()], ids=["chargeback", "invoice", "capacity"]
)
def test_the_page_has_the_examples_as_they_are_recomputed(example: str) -> None:
    """An example that is changed is changed on the page."""
    page = (REPOSITORY / "docs" / "chargeback.md").read_text(encoding="utf-8")

    assert example.strip() in page
