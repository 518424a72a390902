"""Reads an app's settings from a text, in the forms in which people have them.

| form                                       | where it comes from                             |
|--------------------------------------------|-------------------------------------------------|
| `[{"name": ..., "value": ...}, ...]`       | `az functionapp config appsettings list`        |
| `{"IsEncrypted": false, "Values": {...}}`  | `local.settings.json`                           |
| `{"NAME": "value", ...}`                   | any other tool                                  |
| lines `NAME=value` or `export NAME=value`  | `.env` files, `azd env get-values`, `local env` |
"""

import json
import re
import shlex
from collections.abc import Mapping

from meter.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*", re.ASCII)
_LISTED = "run `az functionapp config appsettings list`, which shows values"


def read_settings_text(text: str, name: str) -> Mapping[str, str]:
    """The settings. Raises InvalidInput, which names the text and never shows a value."""
    stripped = text.removeprefix("\ufeff").strip()
    if not stripped:
        raise InvalidInput([f"{name}: is empty"])
    if stripped.startswith(("[", "{")):
        return _from_document(stripped, name)
    return _from_lines(stripped, name)


def _from_document(text: str, name: str) -> Mapping[str, str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput([f"{name}: is not valid JSON"]) from None
    if isinstance(document, list):
        pairs = [
            (each.get("name"), each.get("value")) for each in document if isinstance(each, dict)
        ]
        if len(pairs) < len(document):
            raise InvalidInput([f'{name}: its entries must be {{"name": ..., "value": ...}}'])
    elif document.get("IsEncrypted") is True:
        raise InvalidInput([f"{name}: is encrypted: run `func settings decrypt` first"])
    elif isinstance(values := document.get("Values", document), dict):
        pairs = list(values.items())
    else:
        raise InvalidInput([f"{name}: Values must be an object"])
    return _checked(pairs, name)


def _checked(pairs: list[tuple[object, object]], name: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    problems = []
    for setting, value in pairs:
        if not isinstance(setting, str) or not setting:
            problems.append(f"{name}: has a setting without a name")
        elif value is None:
            problems.append(f"{name}: {setting} has no value: {_LISTED}")
        elif isinstance(value, bool):
            found[setting] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            found[setting] = str(value)
        else:
            problems.append(f"{name}: {setting} must be a text")
    if problems:
        raise InvalidInput(problems)
    return found


def _from_lines(text: str, name: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        setting, equals, value = stripped.removeprefix("export ").partition("=")
        setting = setting.strip()
        if not equals or not _NAME.fullmatch(setting):
            problems.append(f"{name}, line {number}: must be NAME=value")
            continue
        found[setting] = _unquoted(value.strip())
    if problems:
        raise InvalidInput(problems)
    return found


def _unquoted(value: str) -> str:
    """The value as a shell reads it, where it is quoted; else as it stands."""
    if not value.startswith(("'", '"')):
        return value
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 else value
