"""An app's settings in the forms in which people have them."""

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.doctor.settings_text import read_settings_text
from meter.errors import InvalidInput

WANTED = {"METER_EVENT_HUB": "usage", "KEY": "a=b;c"}
LISTED = [{"name": name, "slotSetting": False, "value": value} for name, value in WANTED.items()]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(LISTED),
        json.dumps({"IsEncrypted": False, "Values": WANTED, "Host": {"CORS": "*"}}),
        json.dumps(WANTED),
        "\ufeff" + json.dumps(WANTED),
        "METER_EVENT_HUB=usage\nKEY=a=b;c\n",
        "# of production\n\nexport METER_EVENT_HUB=usage\nexport KEY='a=b;c'\n",
        'METER_EVENT_HUB="usage"\r\nKEY="a=b;c"\r\n',
    ],
    ids=["az", "local.settings", "object", "mark", "lines", "exports", "azd"],
)
def test_settings_are_read_in_every_form(text: str) -> None:
    """Of `az`, of Core Tools, of shells and of other tools."""
    assert read_settings_text(text, "f") == WANTED


def test_numbers_and_switches_become_their_texts() -> None:
    """As the environment would have them."""
    assert read_settings_text('{"A": 5, "B": true, "C": 0.5}', "f") == {
        "A": "5",
        "B": "true",
        "C": "0.5",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f: is empty"),
        ("{", "f: is not valid JSON"),
        ('[{"name": "A", "value": "1"}, 7]', 'f: its entries must be {"name": ..., "value": ...}'),
        ('[{"value": "hunter2"}]', "f: has a setting without a name"),
        (
            '[{"name": "A", "value": null}]',
            "f: A has no value: run `az functionapp config appsettings list`, which shows values",
        ),
        ('{"Values": {"A": {"b": "hunter2"}}}', "f: A must be a text"),
        (
            '{"IsEncrypted": true, "Values": {}}',
            "f: is encrypted: run `func settings decrypt` first",
        ),
        ('{"Values": 7}', "f: Values must be an object"),
        ("hunter2\nA=1", "f, line 1: must be NAME=value"),
    ],
)
def test_what_is_no_settings_is_refused(text: str, problem: str) -> None:
    """With the place, and without a value."""
    with pytest.raises(InvalidInput) as refusal:
        read_settings_text(text, "f")

    assert refusal.value.problems == (problem,)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z_]{0,9}", fullmatch=True),
        st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" '\"")).map(
            str.strip
        ),
        min_size=1,
    )
)
def test_what_a_shell_would_read_is_read(values: dict[str, str]) -> None:
    """Lines of `export`, quoted for a shell, give the values back; JSON does, too."""
    lines = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())

    assert read_settings_text(lines, "f") == values
    assert read_settings_text(json.dumps(values), "f") == values
