"""The alerts and the workbook that a deployment has: queries that work, names that exist, runbooks."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.infra.evaluated import Resource, deployment
from tests.support.kql import AZURE_MONITOR, Checked, check_queries
from tests.support.running import REPOSITORY
from tests.unit.test_docs_api import rows

KQL = REPOSITORY / "infra" / "kql"
PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
METRICS: Mapping[str, Mapping[str, Any]] = json.loads((AZURE_MONITOR / "metrics.json").read_text())
THROTTLED = json.loads((AZURE_MONITOR / "response-types.json").read_text())["throttled"]
MINUTES = {"PT5M": 5, "PT15M": 15, "PT30M": 30, "PT1H": 60, "PT2H": 120}
LOG_RULES = "Microsoft.Insights/scheduledQueryRules"
METRIC_RULES = "Microsoft.Insights/metricAlerts"
WORKBOOKS = "Microsoft.Insights/workbooks"


def short(rule: Resource) -> str:
    return rule.name.removeprefix("meter-alert-")


SHIPPED = deployment("shipped")
QUERY_RULES = {short(rule): rule.properties for rule in SHIPPED.of(LOG_RULES)}
RULES = QUERY_RULES | {short(rule): rule.properties for rule in SHIPPED.of(METRIC_RULES)}
QUERIES = {name: rule["criteria"]["allOf"][0]["query"] for name, rule in QUERY_RULES.items()}


def metric_problems(criterion: Mapping[str, Any]) -> list[str]:
    """What of a metric alert's condition Azure Monitor does not have."""
    metrics = METRICS.get(criterion["metricNamespace"])
    if metrics is None:
        return [f"no resource type {criterion['metricNamespace']}"]
    metric = metrics.get(criterion["metricName"])
    if metric is None:
        return [f"no metric {criterion['metricName']}"]
    problems = []
    if criterion["timeAggregation"] not in metric["aggregations"]:
        problems.append(f"no aggregation {criterion['timeAggregation']}")
    for dimension in criterion["dimensions"]:
        if dimension["name"] not in metric["dimensions"]:
            problems.append(f"no dimension {dimension['name']}")
        elif not set(dimension["values"]) <= set(THROTTLED):
            problems.append(f"no such value of {dimension['name']}")
    return problems


def criteria() -> list[Mapping[str, Any]]:
    return [
        each for rule in SHIPPED.of(METRIC_RULES) for each in rule.properties["criteria"]["allOf"]
    ]


@pytest.fixture(scope="module")
def without_tables() -> Mapping[str, Checked]:
    """The rules' queries in a workspace where no table exists."""
    return check_queries(QUERIES, tables={})


def test_the_queries_are_the_files() -> None:
    """Each file is a rule's, so that what is parsed and bound (`test_queries.py`) is what runs."""
    files = [path.read_text(encoding="utf-8") for path in (KQL / "alerts").glob("*.kql")]

    assert sorted(QUERIES.values()) == sorted(files)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_works_before_its_table_exists(
    name: str, without_tables: Mapping[str, Checked]
) -> None:
    """The first row makes a table; a rule that fails for a week until then is disabled by Azure."""
    problems = without_tables[name].problems

    assert problems
    assert all("Warning KS205" in problem for problem in problems)
    assert QUERY_RULES[name]["skipQueryValidation"] is True


@pytest.mark.parametrize("name", QUERIES)
def test_a_rule_looks_back_further_than_to_its_last_run(name: str) -> None:
    """Lines arrive minutes late; and a union may not run every minute."""
    rule = QUERY_RULES[name]
    every, window = MINUTES[rule["evaluationFrequency"]], MINUTES[rule["windowSize"]]

    assert 5 <= every < window
    assert rule["autoMitigate"] is True
    assert rule["enabled"] is True
    assert [scope.rsplit("/", 2)[1] for scope in rule["scopes"]] == ["workspaces"]


def test_the_page_lists_the_rules() -> None:
    """Name, severity and frequency, each linked to its runbook."""
    shown = {}
    for row in rows("operations.md", "alert"):
        (match,) = re.findall(r"\[(\S+)\]\(#(\S+)\)", row["alert"])
        assert match[0] == match[1]
        shown[match[0]] = (int(row["severity"]), row["runs every"])
    spelt = {5: "5 min", 15: "15 min", 30: "30 min", 60: "1 h"}

    assert shown == {
        name: (rule["severity"], spelt[MINUTES[rule["evaluationFrequency"]]])
        for name, rule in RULES.items()
    }


@pytest.mark.parametrize("name", RULES)
def test_a_rule_links_its_runbook(name: str) -> None:
    """The description ends with the page and the heading, which has text under it."""
    assert RULES[name]["description"].endswith(f". Runbook: docs/operations.md#{name}")
    assert re.search(rf"^### {name}\n\n[A-Z`]", PAGE, re.MULTILINE)


def test_action_groups_are_a_parameter() -> None:
    """Of every rule; without it they call nobody."""
    called = deployment("groups")
    groups = [rule.properties["actions"]["actionGroups"] for rule in called.of(LOG_RULES)]
    groups += [
        [action["actionGroupId"] for action in rule.properties["actions"]]
        for rule in called.of(METRIC_RULES)
    ]

    assert len(groups) == len(RULES)
    assert {group.rsplit("/", 1)[-1] for (group,) in groups} == {"on-call"}
    assert all(
        not rule["actions"] or not rule["actions"]["actionGroups"] for rule in RULES.values()
    )


def test_alerts_can_be_left_out() -> None:
    """With the workbook."""
    found = deployment("two-apps")

    assert not [each for kind in (LOG_RULES, METRIC_RULES, WORKBOOKS) for each in found.of(kind)]


def test_metric_alerts_name_what_exists() -> None:
    """Resource type, metric, aggregation, dimension and its values."""
    assert criteria()
    assert [metric_problems(each) for each in criteria()] == [[]] * len(criteria())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"metricNamespace": "Microsoft.Storage/tables"},
            "no resource type Microsoft.Storage/tables",
        ),
        ({"metricName": "Requests"}, "no metric Requests"),
        ({"timeAggregation": "Maximum"}, "no aggregation Maximum"),
        ({"dimensions": [{"name": "Result", "values": []}]}, "no dimension Result"),
        (
            {"dimensions": [{"name": "ResponseType", "values": ["Throttled"]}]},
            "no such value of ResponseType",
        ),
    ],
)
def test_a_wrong_name_of_a_metric_alert_is_found(change: dict[str, Any], problem: str) -> None:
    """Each part of a condition."""
    assert metric_problems({**criteria()[0], **change}) == [problem]


def workbook() -> list[Mapping[str, Any]]:
    (found,) = SHIPPED.of(WORKBOOKS)
    items: list[Mapping[str, Any]] = json.loads(found.properties["serializedData"])["items"]
    return items


def test_the_workbook_shows_every_query() -> None:
    """Its panels are the files; `{Manifest}` stands where a person puts the address."""
    panels = [item["content"]["query"] for item in workbook() if item["type"] == 3]
    files = [path.read_text(encoding="utf-8") for path in KQL.glob("*.kql")]

    assert sorted(panels) == sorted(f.replace("EXPORT_MANIFEST", "{Manifest}") for f in files)


def test_the_workbook_has_only_parameters_and_tabs_that_it_defines() -> None:
    """In queries, in time ranges, and in what is shown when."""
    parameters, tabs, *panels = workbook()
    known = {each["name"] for each in parameters["content"]["parameters"]}
    named = {
        name
        for item in panels
        for name in [
            item["content"]["timeContextFromParameter"],
            *re.findall(r"\{(\w+)\}", item["content"]["query"]),
            *(each["parameterName"] for each in item["conditionalVisibilities"]),
        ]
    }
    links = {link["subTarget"] for link in tabs["content"]["links"]}
    shown = {
        each["value"]
        for item in panels
        for each in item["conditionalVisibilities"]
        if each["parameterName"] == "tab"
    }

    assert named == known | {"tab"}
    assert links == shown == {"overview", "backends", "subjects", "money"}
