"""The settings of the app's price book: read apart from the others, which calls need."""

import pytest

from meter.config.environment import load_settings
from meter.config.prices import PriceSettings, load_price_settings
from tests.unit.config.test_environment import REQUIRED


def test_files_are_read_in_their_order() -> None:
    """The later of two files wins, as with --prices, so the order counts."""
    given = {"METER_PRICES": " b.csv, contract/a.csv ,", "METER_PRICES_CURRENCY": "EUR"}

    assert load_price_settings(given) == PriceSettings(
        files=("b.csv", "contract/a.csv"), currency="EUR"
    )
    assert load_settings(REQUIRED | given).prices == load_price_settings(given)
    assert load_price_settings({}) == PriceSettings()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"METER_PRICES": "a.csv", "METER_PRICES_CURRENCY": "euro"},
            "METER_PRICES_CURRENCY must be three capitals, such as USD, got 'euro'",
        ),
        (
            {"METER_PRICES_CURRENCY": "EUR"},
            "METER_PRICES_CURRENCY has no effect without METER_PRICES, the files of a price book",
        ),
        (
            {"METER_PRICES": '["a.csv"]'},
            "METER_PRICES must be names separated by commas, without brackets and quotes",
        ),
        (
            {"METER_PRICES": "@Microsoft.KeyVault(x)"},
            "METER_PRICES is a reference that Azure has not resolved: check its name, and the app's "
            "access to the key vault or configuration store",
        ),
    ],
)
def test_a_mistake_is_kept_beside_settings_that_are_valid(
    given: dict[str, str], problem: str
) -> None:
    """No call needs prices, so none is refused for them."""
    assert load_settings(REQUIRED | given).prices.problems == (problem,)
