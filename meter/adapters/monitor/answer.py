"""What is asked of the metrics API, and how an answer is read: numbers by deployment, hour and metric.

`{"timespan", "interval", "value": [{"name", "errorCode", "timeseries": [{"metadatavalues": [{"name",
"value"}], "data": [{"timeStamp", "total"}]}]}]}`; sources in `monitor.py`.

The numbers that are judged are asked for without further dimensions: an account's metrics may lack
those, and what was recorded without a value might be left out of a split.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from meter.adapters.json_get import MAX_QUOTED_CHARS
from meter.errors import MonitorUnavailable
from meter.terminal import printable

DIMENSION = "ModelDeploymentName"
INTERVAL = "PT1H"
MAX_SERIES = 1_000
# Metrics and their fields in a tally.
FIELDS: Mapping[str, str] = {
    "ProcessedPromptTokens": "prompt_tokens",
    "GeneratedTokens": "completion_tokens",
    "TokenTransaction": "total_tokens",
    "AzureOpenAIRequests": "calls",
}

type Document = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Metrics by deployment. With a `split`, also by that dimension, which not all accounts have."""

    metrics: tuple[str, ...]
    split: str = ""
    only: str = ""

    @property
    def filter(self) -> str:
        """The query's `$filter`."""
        split = f"{self.split} eq '*'" if self.split else ""
        return " and ".join(filter(None, (f"{DIMENSION} eq '*'", split, self.only)))


SUMS = Question(metrics=tuple(FIELDS))
# The answer's tier is billed. An account may have the request's alone, which differs for calls that
# Azure downgrades.
TIERS = Question(metrics=("TokenTransaction",), split="ServiceTierResponse")
REQUESTED_TIERS = Question(metrics=("TokenTransaction",), split="ServiceTierRequest")
# Calls alone are split by it, and a throttled one is recorded beside the one that was served.
SPILLED = Question(
    metrics=("AzureOpenAIRequests",), split="IsSpillover", only="StatusCode eq '200'"
)


class Point(NamedTuple):
    """A number of one hour; `value` is that of the split's dimension."""

    metric: str
    deployment: str
    value: str
    moment: datetime
    number: int


def points(
    document: Document, question: Question, start: datetime, end: datetime
) -> Iterator[Point]:
    """The numbers from `start` to before `end`.

    Raises MonitorUnavailable if the answer has another shape, covers less, or may be cut.
    """
    try:
        _check_range(document, start, end)
        metrics = {_name(metric): metric for metric in _list(document["value"])}
        for key in question.metrics:
            metric = metrics[key.lower()]
            if metric.get("errorCode", "Success") != "Success":
                raise ValueError(f"{key}: {metric.get('errorMessage') or metric['errorCode']}")
            for point in _series(key, _list(metric["timeseries"]), question.split):
                if start <= point.moment < end:
                    yield point
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as exc:
        raise MonitorUnavailable(
            f"Azure Monitor's answer cannot be used: {printable(str(exc), most=MAX_QUOTED_CHARS)}"
        ) from exc


def _check_range(document: Document, start: datetime, end: datetime) -> None:
    answered = [_moment(part) for part in str(document["timespan"]).split("/")]
    if len(answered) != 2 or answered[0] > start or answered[1] <= end - timedelta(hours=1):
        raise ValueError(f"it covers {document['timespan']} only")
    if document["interval"] != INTERVAL:
        raise ValueError(f"its interval is {document['interval']}")


def _series(metric: str, series: list[Document], split: str) -> Iterator[Point]:
    if len(series) >= MAX_SERIES:
        raise ValueError(f"{MAX_SERIES} deployments or more")
    for each in series:
        values = {_name(value): str(value["value"]) for value in _list(each["metadatavalues"])}
        deployment = values[DIMENSION.lower()]
        value = values[split.lower()].lower() if split else ""
        for point in _list(each["data"]):
            moment, number = _moment(str(point["timeStamp"])), _number(point.get("total"))
            yield Point(metric, deployment, value, moment, number)


def _name(named: Document) -> str:
    name = named["name"]
    if not isinstance(name, dict):
        raise TypeError("a name is no object")
    return str(name["value"]).lower()


def _list(value: object) -> list[Document]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise TypeError("a list of objects is missing")
    return value


def _number(value: object) -> int:
    """A count. Azure writes counts as decimals and omits those of hours without any."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a total is no number")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"a total is {value}")
    return round(value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
