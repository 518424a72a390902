"""Reads an answer of the metrics API: numbers by own deployment, hour and metric.

`{"timespan", "interval", "value": [{"name", "errorCode", "timeseries": [{"metadatavalues": [{"name",
"value"}], "data": [{"timeStamp", "total"}]}]}]}`; sources in `monitor.py`.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from meter.errors import MonitorUnavailable
from meter.reports.reconcile import Tally
from meter.terminal import printable

DIMENSION = "ModelDeploymentName"
INTERVAL = "PT1H"
MAX_SERIES = 1_000
MAX_QUOTED_CHARS = 300
# Metrics and their fields in a tally.
FIELDS: Mapping[str, str] = {
    "ProcessedPromptTokens": "prompt_tokens",
    "GeneratedTokens": "completion_tokens",
    "TokenTransaction": "total_tokens",
    "AzureOpenAIRequests": "calls",
}

type Document = Mapping[str, object]


def points(
    document: Document, start: datetime, end: datetime
) -> Iterator[tuple[str, datetime, Tally]]:
    """The numbers from `start` to before `end`, as (own name, moment, tally).

    Raises MonitorUnavailable if the answer has another shape, covers less, or may be cut.
    """
    try:
        _check_range(document, start, end)
        metrics = {_name(metric): metric for metric in _list(document["value"])}
        for key, name in FIELDS.items():
            metric = metrics[key.lower()]
            if metric.get("errorCode", "Success") != "Success":
                raise ValueError(f"{key}: {metric.get('errorMessage') or metric['errorCode']}")
            for deployment, moment, number in _series(_list(metric["timeseries"])):
                if start <= moment < end:
                    yield deployment, moment, Tally(**{name: number})
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


def _series(series: list[Document]) -> Iterator[tuple[str, datetime, int]]:
    if len(series) >= MAX_SERIES:
        raise ValueError(f"{MAX_SERIES} deployments or more")
    for each in series:
        values = {_name(value): value["value"] for value in _list(each["metadatavalues"])}
        deployment = values[DIMENSION.lower()]
        for point in _list(each["data"]):
            yield str(deployment), _moment(str(point["timeStamp"])), _number(point.get("total"))


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
