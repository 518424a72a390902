"""docs/focus.md is the reference of our own columns, and of how charges are divided."""

import re

from meter.reports.focus.charge import Method
from meter.reports.focus.columns import focus_columns
from meter.reports.focus.version import FocusVersion
from tests.focus.validate import CANNOT_HOLD
from tests.support.running import REPOSITORY

PAGE = (REPOSITORY / "docs" / "focus.md").read_text(encoding="utf-8")


def test_all_own_columns_are_documented_and_no_others() -> None:
    """The specification asks for it; what is not there cannot be relied on."""
    names = {column.name for column in focus_columns(FocusVersion.V1_2, "unknown")}

    assert set(re.findall(r"`(x_\w+)`", PAGE)) == {name for name in names if name[:2] == "x_"}


def test_each_method_of_allocation_is_documented() -> None:
    """By its one AllocatedMethodId."""
    assert re.findall(r"^\| `([\w-]+-use)` \|", PAGE, re.MULTILINE) == list(Method)


def test_the_rule_that_cannot_hold_is_the_only_one() -> None:
    """Others would be defects."""
    (rule,) = CANNOT_HOLD

    assert re.findall(r"`InvoiceId-C-\d+-C`", PAGE) == ["`InvoiceId-C-004-C`", f"`{rule}`"]
