"""Every KQL query in the repository works on the tables it names and names only what the code emits."""

import re
from collections.abc import Iterator, Mapping

import pytest

from tests.support.kql import Checked, check_queries
from tests.support.kql.naming import naming_problems
from tests.support.running import REPOSITORY

KQL = REPOSITORY / "infra" / "kql"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?:kusto|kql)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"--analytics-query '([^']+)'")
GOOD = 'FunctionAppLogs | where Message startswith "outbox_backlog " '


def _files() -> Iterator[tuple[str, str]]:
    for path in sorted(KQL.rglob("*.kql")):
        yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")


def _of_pages() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in (*BLOCK.finditer(text), *COMMAND.finditer(text)):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{page.relative_to(REPOSITORY)}:{line}", match.group(1)


QUERIES = dict([*_files(), *_of_pages()])
WRONG = {
    "a table": ("FunctionAppLog | take 1", "FunctionAppLog"),
    "a column": (GOOD + "| project Text", "Text"),
    "a column of another table": (GOOD + "| project ResultCode", "ResultCode"),
    "a type": (GOOD + "| extend n = Message * 2", "KS"),
    "an argument": (GOOD + "| summarize percentile(ProcessId) by FunctionName", "KS"),
    "an aggregate": (GOOD + "| where count() > 1", "KS"),
    "a line": ('FunctionAppLogs | where Message startswith "outbox_backlogs "', "outbox_backlogs"),
    "a line among others": (
        'FunctionAppLogs | where Message has_any ("outbox_backlog", "hub_left")',
        "hub_left",
    ),
    "a field": (GOOD + "| parse-kv Message as (age: long)", "no field age"),
    "a field of another line": (GOOD + "| parse-kv Message as (fault: string)", "no field fault"),
    "a field in a pattern": (
        GOOD + '| extend x = extract("waiting=(\\\\d+)", 1, Message)',
        "waiting",
    ),
    "a field that is parsed": (GOOD + '| parse Message with * "old=" Old:long', "no field old"),
    "a value": (
        'FunctionAppLogs | where Message has "backend_failed_over" and Message has "fault=denied"',
        "no fault denied",
    ),
    "a function": ('FunctionAppLogs | where FunctionName == "aggregate"', "no function aggregate"),
    "no line": ("FunctionAppLogs | summarize count() by Category", "names nothing"),
}


@pytest.fixture(scope="module")
def checked() -> Mapping[str, Checked]:
    """All queries, checked by one process."""
    return check_queries(QUERIES | {name: query for name, (query, _) in WRONG.items()})


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_binds_and_names_what_is_there(name: str, checked: Mapping[str, Checked]) -> None:
    """No error or warning of the parser; lines, fields and functions are the code's."""
    assert [*checked[name].problems, *naming_problems(checked[name])] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_is_found(name: str, checked: Mapping[str, Checked]) -> None:
    """Each kind of name that a query can get wrong."""
    found = "\n".join([*checked[name].problems, *naming_problems(checked[name])])

    assert WRONG[name][1] in found


@pytest.mark.parametrize("name", [name for name in QUERIES if name.endswith(".kql")])
def test_a_query_file_says_what_it_shows(name: str) -> None:
    """It begins with a comment, which is what the portal shows of it, too."""
    assert re.match(r"// [A-Z].*\.$", QUERIES[name].partition("\n")[0])
