"""Prefixes and OpenCode's document are read as they are used, and what could be misread is refused."""

import json
from pathlib import Path

import pytest

from meter.config.callers import OWN_SEGMENTS
from meter.config.environment import load_settings
from meter.errors import InvalidSettings
from tests.unit.config.test_environment import REQUIRED

SETTING = "METER_PATH_PREFIXES"


def prefixes(text: str) -> tuple[str, ...]:
    return load_settings(REQUIRED | {SETTING: text}).gateway.routes.spellings.prefixes


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ()),
        (" , ", ()),
        ("/corp/team", ("/corp/team",)),
        ("/a, /corp/team ,/a", ("/a", "/corp/team")),
        ("/api/projects/p.1_x~", ("/api/projects/p.1_x~",)),
        ("/corp/openai", ("/corp/openai",)),
        ("/.well-known2/openai", ("/.well-known2/openai",)),
    ],
)
def test_prefixes_are_a_list_of_paths(text: str, read: tuple[str, ...]) -> None:
    """Each once."""
    assert prefixes(text) == read


@pytest.mark.parametrize(
    "prefix",
    [
        *("corp", "corp/team", "https://h.example/corp", "*"),
        *("/", "/corp/", "/corp//team", "//corp", "/corp//"),
        *("/.", "/corp/..", "/corp/./team", "/../corp"),
        *("/corp%2Fteam", "/c%6Frp", "/corp%", "/corp?x=1", "/corp#x", "/corp team", "/corp\\team"),
        *("/corp\u00e9", "/corp\u0661", "/corp\x7f", "/{prefix}", '/corp"', "/" + "a" * 256),
        *(f"/{segment}" for segment in OWN_SEGMENTS),
        *("/openai/deployments/gpt", "/OpenAI/x", "/ADMIN/x", "/Runtime", "/healthz/x"),
    ],
)
def test_a_prefix_that_could_be_misread_is_refused(prefix: str) -> None:
    """One line that says what is accepted; the other settings are as good as before."""
    with pytest.raises(InvalidSettings) as refused:
        prefixes(f"/good,{prefix}")

    (problem,) = refused.value.problems
    assert problem.startswith(f"{SETTING} must ")
    assert "\n" not in problem


OPENCODE = {"auth": {"command": ["az"], "env": "T"}, "config": {"model": "gateway/gpt-4o"}}


def published(text: str) -> bytes | None:
    return load_settings(REQUIRED | {"METER_OPENCODE": text}).gateway.opencode.document


def test_opencode_is_told_what_the_setting_or_its_file_has(tmp_path: Path) -> None:
    """Nothing without it."""
    file = tmp_path / "opencode.json"
    file.write_text(json.dumps(OPENCODE))

    assert json.loads(published(json.dumps(OPENCODE)) or b"") == OPENCODE
    assert published(str(file)) == published(json.dumps(OPENCODE))
    assert published("") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not valid JSON"),
        ("[]", 'must be {"auth"'),
        ('{"config": {"x": NaN}}', "is not valid JSON"),
        ('{"auth": {"command": [], "env": "T"}, "config": {}}', "needs auth.command"),
        ('{"auth": {}, "auth": {}, "config": {}}', "has a key twice"),
        ("/no/such/file.json", "is the path of a file that cannot be read"),
        ("true", "is the path of a file that cannot be read"),
    ],
)
def test_a_document_for_opencode_that_is_none_is_refused(text: str, problem: str) -> None:
    """At the start, and not by each developer's OpenCode."""
    with pytest.raises(InvalidSettings) as refused:
        published(text)

    assert refused.value.problems[0].startswith(f"METER_OPENCODE {problem}")
