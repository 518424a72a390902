"""Answers a metrics request as Azure Monitor answers it, or refuses it in Azure's words.

| Azure's behaviour | source |
|---|---|
| with a `$filter`, 10 series unless `top` is larger | azure-mgmt-monitor, `metrics.list` |
| dimension names in lower case; empty hours are listed with 0 | Azure Monitor's REST walkthrough |
| a series for each combination of the values of the filter's dimensions | the same |
| `and` joins dimensions, `or` the values of one | azure-mgmt-monitor, `metrics.list` |
| a dimension that a metric lacks is refused, with those that it has | "Migrate to the batch API", errors |
| tokens are split by service tier, calls also by spillover and status | the list of supported metrics |
| a range over 30 days is answered with its last 30 days | azure-sdk-for-python, issue 13547 |
| metrics are kept for 93 days | the same, and Azure Monitor's metrics overview |
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from uuid import UUID

from local.azure_service import Refused
from local.monitor.numbers import Numbers

METRICS = ("ProcessedPromptTokens", "GeneratedTokens", "TokenTransaction", "AzureOpenAIRequests")
_TIERS = {"ServiceTierRequest": "requested_tier", "ServiceTierResponse": "service_tier"}
_TOKENS = {"ModelDeploymentName": "deployment", **_TIERS}
_CALLS = {**_TOKENS, "StatusCode": "status", "IsSpillover": "is_spillover"}
# Where the number of each dimension is in a key.
DIMENSIONS: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(METRICS, _TOKENS),
    "AzureOpenAIRequests": _CALLS,
}
# An account whose metrics are not split further.
EARLIER_DIMENSIONS: Mapping[str, Mapping[str, str]] = {
    **{metric: {"ModelDeploymentName": "deployment"} for metric in METRICS},
    "AzureOpenAIRequests": {"ModelDeploymentName": "deployment", "StatusCode": "status"},
}
_KEPT = timedelta(days=93)
_LONGEST = timedelta(days=30)
_CLAUSE = re.compile(r"\s*(\w+)\s+eq\s+'([^']*)'\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A query of one account.

    `wanted` are the values of each of the filter's dimensions, none for all values; a filter makes a
    series for each combination of them, and no filter makes one in all.
    """

    names: tuple[str, ...]
    start: datetime
    end: datetime
    wanted: Mapping[str, frozenset[str]]
    top: int


def parse_request(
    query: Mapping[str, str],
    now: datetime,
    dimensions: Mapping[str, Mapping[str, str]] = DIMENSIONS,
) -> Request:
    """Read the query to metrics that have these dimensions. Raises Refused."""
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
    wanted = _wanted(query.get("$filter"))
    for name in names:
        _check_dimensions(name, wanted, dimensions[name])
    return Request(
        names=tuple(names),
        start=start,
        end=end,
        wanted=wanted,
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
    if not request.wanted:
        cells = [(key.hour, number) for key, number in numbers.items() if key.metric == name]
        yield {"metadatavalues": [], "data": _data(request, cells)}
        return
    fields = {name.lower(): place for name, place in _CALLS.items()}
    values_of = attrgetter("deployment", *(fields[dimension] for dimension in request.wanted))
    found: defaultdict[tuple[str, ...], list[tuple[str, float]]] = defaultdict(list)
    for key, number in numbers.items():
        if key.metric == name and number:
            found[values_of(key)[1:]].append((key.hour, number))
    kept = [each for each in sorted(found.items()) if _is_wanted(each[0], request)]
    for values, cells in kept[: request.top]:
        yield {
            "metadatavalues": [
                {"name": {"value": dimension, "localizedValue": dimension}, "value": value}
                for dimension, value in zip(request.wanted, values, strict=True)
            ],
            "data": _data(request, cells),
        }


def _is_wanted(values: Sequence[str], request: Request) -> bool:
    pairs = zip(values, request.wanted.values(), strict=True)
    return all(not some or value.lower() in some for value, some in pairs)


def _data(request: Request, cells: Sequence[tuple[str, float]]) -> list[dict[str, object]]:
    data: list[dict[str, object]] = []
    moment = request.start
    while moment < request.end:
        hour = moment.strftime("%Y-%m-%dT%H")
        total = sum(number for at, number in cells if at == hour)
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


def _wanted(filter_text: str | None) -> dict[str, frozenset[str]]:
    """The values of each dimension, in lower case; none for `*`."""
    wanted: dict[str, frozenset[str]] = {}
    for part in re.split(r"(?<=')\s+and\s", filter_text) if filter_text else ():
        clauses = [_CLAUSE.fullmatch(clause) for clause in re.split(r"(?<=')\s+or\s", part)]
        found = [(each[1].lower(), each[2].lower()) for each in clauses if each is not None]
        dimensions = {dimension for dimension, _ in found}
        if None in clauses or len(dimensions) != 1 or dimensions & wanted.keys():
            raise _bad(f"Invalid filter: {filter_text}")
        values = frozenset(value for _, value in found)
        wanted[dimensions.pop()] = frozenset() if values == {"*"} else values
    return wanted


def _check_dimensions(
    metric: str, wanted: Mapping[str, frozenset[str]], supported: Mapping[str, str]
) -> None:
    if not wanted.keys() <= {name.lower() for name in supported}:
        raise _bad(
            f"Metric: {metric} does not support requested dimension combination: "
            f"{','.join(wanted)}, supported ones are: {','.join(supported)}, TraceId: {{{UUID(int=0)}}}"
        )


def _top(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 2**31:
        raise _bad(f"Detected invalid TopN value {text} should be Int value")
    return int(text)


def _bad(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
