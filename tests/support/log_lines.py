"""The log lines that the code emits, read from the code: each with its levels and its fields.

A line is the message of a logging call: one literal, `line_name field=%s field=%s`.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.support.running import REPOSITORY

LOGGER = re.compile(r"(?:^|[._])log(?:ger)?$", re.IGNORECASE)
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
FIELD = re.compile(r"(?<= )([a-z_]+)=")
# What the console handler adds to each line; `line` and `part` to those it splits.
ADDED = frozenset({"at", "level", "line", "part"})
SOURCES = [REPOSITORY / "function_app.py", *sorted((REPOSITORY / "meter").rglob("*.py"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One logging call: its message, with `%s` for what is not literal, and the levels it may have."""

    text: str
    levels: frozenset[str]


@dataclass(slots=True)
class Line:
    """A line by its name: the fields and levels of all calls that write it."""

    fields: set[str] = field(default_factory=set)
    levels: set[str] = field(default_factory=set)


@cache
def emitted_lines() -> Mapping[str, Line]:
    """The lines by name, without the fields of `ADDED`."""
    found: dict[str, Line] = {}
    for logged in (each for source in SOURCES for each in logging_calls(source)):
        line = found.setdefault(logged.text.partition(" ")[0], Line())
        line.fields |= set(FIELD.findall(logged.text))
        line.levels |= logged.levels
    return found


def logging_calls(source: Path) -> Iterator[Logged]:
    """The logging calls of a module; the console handler writes lines of its own with `_put`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr="_put")):
                if isinstance(node.args[0], ast.JoinedStr):
                    yield Logged(text=_text(node.args[0]), levels=_levels(node.args[1]))
            case ast.Call(func=ast.Attribute(value=logger, attr=attr)):
                if not LOGGER.search(ast.unparse(logger)):
                    continue
                if attr in LEVELS:
                    level = "error" if attr == "exception" else attr
                    yield Logged(text=_text(node.args[0]), levels=frozenset({level}))
                elif attr == "log":
                    yield Logged(text=_text(node.args[1]), levels=_levels(node.args[0]))


def _levels(expression: ast.expr) -> frozenset[str]:
    names = re.findall(r"logging\.([A-Z]+)", ast.unparse(expression))
    return frozenset(map(str.lower, names))


def _text(message: ast.expr) -> str:
    match message:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(v.value) if isinstance(v, ast.Constant) else "%s" for v in values)
        case _:
            return f"not a literal: {ast.unparse(message)}"
