"""Checks KQL with Microsoft's own parser: what each query names, and what is wrong with it."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.running import REPOSITORY

CHECK = Path(__file__).with_name("check.cjs")
AZURE_MONITOR = REPOSITORY / "tests" / "data" / "azure-monitor"

type Tables = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A column, or an expression of one, that a query compares with a text."""

    column: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the parser says of a query.

    `columns` are the result's, `keys` those of `parse-kv`, `patterns` texts that are not compared.
    """

    problems: Sequence[str]
    tables: Sequence[str]
    columns: Sequence[str]
    comparisons: Sequence[Comparison]
    keys: Sequence[str]
    patterns: Sequence[str]


@cache
def known_tables() -> Tables:
    """The tables of a Log Analytics workspace, with their columns and types."""
    tables: Tables = json.loads((AZURE_MONITOR / "tables.json").read_text(encoding="utf-8"))
    return tables


def check_queries(
    queries: Mapping[str, str], tables: Tables | None = None
) -> Mapping[str, Checked]:
    """Parse and bind the queries, all in one process."""
    asked = {"tables": known_tables() if tables is None else tables, "queries": dict(queries)}
    done = subprocess.run(
        ["node", str(CHECK)], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    return {
        name: Checked(**{**found, "comparisons": [Comparison(**c) for c in found["comparisons"]]})
        for name, found in json.loads(done.stdout).items()
    }
