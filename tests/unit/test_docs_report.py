"""docs/table-schema.md is the analyst's reference of the report."""

from meter.reports.columns import usage_columns
from meter.reports.query import Grouping
from tests.support.reports import query
from tests.support.running import REPOSITORY


def test_every_grouping_and_column_of_money_is_documented() -> None:
    """What is not there cannot be relied on."""
    text = (REPOSITORY / "docs" / "table-schema.md").read_text(encoding="utf-8")
    page = text.partition("## Querying")[2]
    counts = {column.name for column in usage_columns(query())}
    money = {column.name for column in usage_columns(query(), "USD")} - counts

    assert [each for each in Grouping if each.value not in page] == []
    assert [name for name in money - {"currency"} if f"`{name}`" not in page] == []
