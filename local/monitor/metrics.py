"""Answers a metrics request as Azure Monitor answers it, or refuses it in Azure's words.

| Azure's behaviour | source |
|---|---|
| with a `$filter`, 10 series unless `top` is larger | azure-mgmt-monitor, `metrics.list` |
| dimension names in lower case; empty hours are listed with 0 | Azure Monitor's REST walkthrough |
| a range over 30 days is answered with its last 30 days | azure-sdk-for-python, issue 13547 |
| metrics are kept for 93 days | the same, and Azure Monitor's metrics overview |
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from local.monitor.numbers import Numbers

METRICS = ("ProcessedPromptTokens", "GeneratedTokens", "TokenTransaction", "AzureOpenAIRequests")
_DIMENSION = "ModelDeploymentName"
_KEPT = timedelta(days=93)
_LONGEST = timedelta(days=30)
_CLAUSE = re.compile(rf"\s*{_DIMENSION}\s+eq\s+'([^']*)'\s*", re.IGNORECASE)


class Refused(Exception):
    """The request is refused with a status and an error in Azure's shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A query of one account. `deployments` None: all as one series; empty: one series per deployment."""

    names: tuple[str, ...]
    start: datetime
    end: datetime
    deployments: frozenset[str] | None
    top: int


def parse_request(query: Mapping[str, str], now: datetime) -> Request:
    """Read the query. Raises Refused."""
    if "api-version" not in query:
        raise Refused(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    known = {name.lower(): name for name in METRICS}
    names = []
    for name in query.get("metricnames", "").split(","):
        if name.lower() not in known:
            raise _bad(
                "Failed to find metric configuration for provider: Microsoft.CognitiveServices, "
                f"resource Type: accounts, metric: {name}, Valid metrics: {','.join(METRICS)}"
            )
        names.append(known[name.lower()])
    if query.get("interval") != "PT1H":
        raise _bad(f"This stand-in knows the time grain PT1H only, got {query.get('interval')}")
    if "total" not in query.get("aggregation", "").lower().split(","):
        raise _bad("This stand-in knows the aggregation Total only")
    start, end = _range(query.get("timespan", ""), now)
    return Request(
        names=tuple(names),
        start=start,
        end=end,
        deployments=_deployments(query.get("$filter")),
        top=_top(query.get("top", "10")),
    )


def answer(request: Request, numbers: Numbers, resource_id: str) -> dict[str, object]:
    """The body of a successful answer."""
    return {
        "cost": 0,
        "timespan": f"{_text(request.start)}/{_text(request.end)}",
        "interval": "PT1H",
        "value": [
            {
                "id": f"{resource_id}/providers/Microsoft.Insights/metrics/{name}",
                "type": "Microsoft.Insights/metrics",
                "name": {"value": name, "localizedValue": name},
                "unit": "Count",
                "timeseries": list(_series(request, numbers, name)),
                "errorCode": "Success",
            }
            for name in request.names
        ],
        "namespace": "Microsoft.CognitiveServices/accounts",
        "resourceregion": "eastus",
    }


def _series(request: Request, numbers: Numbers, name: str) -> Iterator[dict[str, object]]:
    found = {key[0] for key, number in numbers.items() if key[2] == name and number}
    if request.deployments is None:
        yield {"metadatavalues": [], "data": _data(request, numbers, name, found)}
        return
    wanted = {own for own in found if not request.deployments or own.lower() in request.deployments}
    for own in sorted(wanted)[: request.top]:
        dimension = {"value": _DIMENSION.lower(), "localizedValue": _DIMENSION.lower()}
        yield {
            "metadatavalues": [{"name": dimension, "value": own}],
            "data": _data(request, numbers, name, {own}),
        }


def _data(
    request: Request, numbers: Numbers, name: str, deployments: set[str]
) -> list[dict[str, object]]:
    data: list[dict[str, object]] = []
    moment = request.start
    while moment < request.end:
        hour = moment.strftime("%Y-%m-%dT%H")
        total = sum(numbers.get((own, hour, name), 0) for own in deployments)
        data.append({"timeStamp": _text(moment), "total": float(total)})
        moment += timedelta(hours=1)
    return data


def _range(text: str, now: datetime) -> tuple[datetime, datetime]:
    try:
        start, end = (datetime.fromisoformat(part).astimezone(UTC) for part in text.split("/"))
    except ValueError:
        raise _bad(f"Invalid timespan: {text}") from None
    if start >= end:
        raise _bad("The start time cannot be equal to or greater than the end time.")
    if end < now - _KEPT:
        raise _bad(f"Query endTime: {end} is out of the Max metrics retention period: 93.00:00:00")
    return max(start, end - _LONGEST), end


def _deployments(filter_text: str | None) -> frozenset[str] | None:
    if filter_text is None:
        return None
    clauses = [_CLAUSE.fullmatch(part) for part in re.split(r"\bor\b", filter_text)]
    names = {found[1].lower() for found in clauses if found is not None}
    if None in clauses or len(names) < len(clauses):
        raise _bad(f"Invalid filter: {filter_text}")
    return frozenset() if names == {"*"} else frozenset(names)


def _top(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 2**31:
        raise _bad(f"Detected invalid TopN value {text} should be Int value")
    return int(text)


def _bad(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
