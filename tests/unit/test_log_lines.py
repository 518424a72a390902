"""The log lines can be queried: literal names, fields that a space ends, and a page that lists them."""

import logging
import re
from functools import cache

import pytest

from meter.publishing.loglines import LEVELS
from tests.support.log_lines import SOURCES, Logged, emitted_lines, logging_calls
from tests.unit.test_docs_api import names, rows

LOGGED = [each for source in SOURCES for each in logging_calls(source)]
# A value that may hold spaces ends the line: whatever stands behind it would belong to it.
FREE_TEXT = {"reason", "problems", "event"}
NAME = re.compile(r"[a-z]+(?:_[a-z]+)*")


def test_the_code_is_read() -> None:
    """Among the lines is one of each kind of call."""
    lines = emitted_lines()

    assert len(lines) > 40
    assert lines["outbox_backlog"].fields == {"events", "oldest_seconds"}
    assert lines["backend_failed_over"].levels == {"error", "warning"}
    assert lines["log_lines_dropped"].fields == {"count"}


@pytest.mark.parametrize("logged", LOGGED, ids=lambda logged: logged.text.partition(" ")[0])
def test_a_line_is_a_name_and_fields(logged: Logged) -> None:
    """One literal, `field=value` behind it, free text last."""
    name, *fields = logged.text.split(" ")
    keys = [field.partition("=")[0] for field in fields if "=" in field]
    free = [key for key in keys if key in FREE_TEXT]

    assert NAME.fullmatch(name)
    assert len(keys) == len(fields) or free == keys[-1:]
    assert free in ([], keys[-1:])
    assert len(set(keys)) == len(keys)


@cache
def page() -> dict[str, tuple[set[str], set[str]]]:
    """Line -> levels and fields, as the page lists them."""
    shown: dict[str, tuple[set[str], set[str]]] = {}
    for row in rows("operations.md", "message"):
        level, _, about = row["level; fields"].partition(";")
        fields = {name.partition("=")[0] for name in names(about)}
        for name in names(row["message"]):
            levels, known = shown.setdefault(name, (set(), set()))
            levels.add(level)
            known |= fields
    return shown


def test_the_page_lists_every_line() -> None:
    """Each line that the code writes, and no other."""
    assert set(page()) == set(emitted_lines())


@pytest.mark.parametrize("name", sorted(emitted_lines()))
def test_levels_and_fields_are_those_of_the_page(name: str) -> None:
    """The page gives each level a line may have, and only fields that it has."""
    line = emitted_lines()[name]
    levels, fields = page()[name]

    assert levels == {LEVELS[getattr(logging, level.upper())] for level in line.levels}
    assert fields <= line.fields
