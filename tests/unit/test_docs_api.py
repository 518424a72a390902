"""The pages that list operations and settings say what the code does."""

import re
from collections.abc import Iterator

import pytest

from meter.config.environment import load_settings
from meter.config.values import Settings
from meter.errors import ErrorKind, InvalidSettings
from meter.gateway.request.operations import NOT_SERVED, TABLE, Served
from tests.support.running import REPOSITORY

DOCS = REPOSITORY / "docs"
REQUIRED = {
    "METER_ISSUERS": "https://login.example/t/v2.0",
    "METER_AUDIENCES": "api://meter",
    "METER_BACKENDS": '[{"name": "eu", "url": "https://eu.example", "deployments": {"gpt": "gpt"}}]',
    "EventHubConnection": "Endpoint=sb://hub/;SharedAccessKey=key",
    "MeterStorage": "AccountName=a;AccountKey=key",
}
type Row = dict[str, str]


def rows(page: str, first_column: str) -> Iterator[Row]:
    """The rows of the page's tables whose first column has that heading, by heading."""
    headings: list[str] = []
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        if not line.startswith("|"):
            headings = []
        elif not headings:
            headings = cells
        elif headings[0] == first_column and not set(line) <= set("|-"):
            yield dict(zip(headings, cells, strict=True))


def names(cell: str) -> list[str]:
    """What stands in code type in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def listed(served: Served) -> tuple[str, ...]:
    """A row of the code's table as the page writes it."""
    return (
        f"`{served.operation}`",
        served.method,
        f"`{served.place.value}{served.tail}`",
        f"`/openai/v1/{served.tail}`",
        served.body.value,
    )


def test_the_page_lists_the_operations_that_are_served() -> None:
    """Name, method, both addresses and body of each, in the code's order."""
    columns = ("operation", "method", "classic address", "v1 address", "body")
    shown = [tuple(row[column] for column in columns) for row in rows("api.md", "operation")]

    assert shown == [listed(served) for served in TABLE]


def test_the_page_says_which_operations_are_charged() -> None:
    """`yes` is by the usage that the answer tells; the others count no tokens."""
    counted = {row["operation"]: row["counted"] for row in rows("api.md", "operation")}

    assert set(counted.values()) == {"yes", "0 tokens", "no event"}
    assert {f"`{served.operation}`": served.is_charged for served in TABLE} == {
        operation: how == "yes" for operation, how in counted.items()
    }


def test_the_page_lists_what_is_refused_by_name() -> None:
    """Each first word of an address, with the name that the answer's message has."""
    shown = {
        word: row["in the message"]
        for row in rows("api.md", "first word of the address")
        for word in names(row["first word of the address"])
    }

    assert shown == NOT_SERVED


def test_the_page_lists_the_kinds_of_errors() -> None:
    """The values of `x-meter-error`, each once."""
    shown = [names(row["`x-meter-error`"])[0] for row in rows("api.md", "`x-meter-error`")]

    assert sorted(shown) == sorted(ErrorKind)


def settings_of_the_page() -> list[Row]:
    return list(rows("configuration.md", "setting"))


def numeric_settings() -> list[tuple[str, str, float, float]]:
    """Each setting whose default is a number: name, default, least and most of what is accepted."""
    found: list[tuple[str, str, float, float]] = []
    for row in settings_of_the_page():
        default = row["default"].replace(",", "")
        if re.fullmatch(r"[\d.]+", default):
            (name,) = names(row["setting"])
            least, most = (float(part.replace(",", "")) for part in row["accepted"].split(" to "))
            found.append((name, default, least, most))
    return found


def loaded(**changes: str) -> Settings:
    return load_settings(REQUIRED | changes)


def test_every_setting_is_on_the_page() -> None:
    """Those the code reads are those the page lists."""
    sources = [file.read_text(encoding="utf-8") for file in (REPOSITORY / "meter").rglob("*.py")]
    read = {name for source in sources for name in re.findall(r"\"(METER_[A-Z_]+)\"", source)}
    shown = {name for row in settings_of_the_page() for name in names(row["setting"])}

    assert len(numeric_settings()) > 15
    assert read == {name for name in shown if name.startswith("METER_")}


@pytest.mark.parametrize(("setting", "default", "least", "most"), numeric_settings())
def test_defaults_and_bounds_are_those_of_the_page(
    setting: str, default: str, least: float, most: float
) -> None:
    """The default is what leaving it out means; both bounds are accepted, and nothing beyond them."""
    assert loaded(**{setting: default}) == loaded()
    for accepted in (least, most):
        loaded(**{setting: f"{accepted:f}"})
    for refused in (least - 0.01, most + 1):
        with pytest.raises(InvalidSettings, match=setting):
            loaded(**{setting: f"{refused:f}"})
