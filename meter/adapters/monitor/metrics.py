"""Reads what Azure Monitor recorded for an AOAI account: tokens and calls by deployment and hour.

Up to four GETs per account and week, with `requests`, since there is no event loop. Sources:

- The request, its `top` (10 unless given) and the answer's shape: azure-mgmt-monitor 7.0.0, `metrics.list`.
- Metric and dimension names: learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/
  microsoft-cognitiveservices-accounts-metrics. `TokenTransaction` ("processed inference tokens") is prompt
  plus generated tokens, not calls; calls are `AzureOpenAIRequests`, refused and throttled ones included.
- Tokens and calls are split by `ServiceTierResponse` (default, priority, flex: what is billed, unlike
  `ServiceTierRequest`), calls also by `IsSpillover`: the same page. In July 2026 it had no such split of
  tokens, so an account may lack it. A metric without the dimension is refused: 400 and "does not support
  requested dimension combination", learn.microsoft.com/azure/azure-monitor/metrics/migrate-to-batch-api.
- `and` joins dimensions in a filter, `or` the values of one: azure-mgmt-monitor 7.0.0, `metrics.list`.
- The case of names is ignored, and dimension names are mostly in lower case; no data is an empty series;
  429 or 529 when throttled: learn.microsoft.com/azure/azure-monitor/metrics/rest-api-walkthrough.
- A longer range is silently answered with its last 30 days only, so ranges are cut and the answer's own
  range is checked: github.com/Azure/azure-sdk-for-python/issues/13547.
- The sovereign clouds' addresses and scopes: azure-mgmt-core 1.6.0, `get_arm_endpoints`.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

import requests
from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

from meter.adapters.json_get import MAX_QUOTED_CHARS, Bounds, JsonGet, Refused
from meter.adapters.monitor.answer import (
    FIELDS,
    INTERVAL,
    MAX_SERIES,
    REQUESTED_TIERS,
    SPILLED,
    SUMS,
    TIERS,
    Document,
    Point,
    Question,
    points,
)
from meter.errors import MonitorUnavailable
from meter.gateway.address import is_loopback
from meter.reports.tally import OwnDeployment, Recorded, Tally
from meter.window import Period, Window, window_of

API_VERSION = "2024-02-01"
LONGEST_RANGE = timedelta(days=7)
RENEW_BEFORE_SECONDS = 300
_SET, _NOT_SET = {"true", "1", "yes"}, {"false", "0", "no", "", "none", "null", "__empty"}
_HINTS = {
    401: ". Sign in again (az login), to the accounts' tenant",
    403: ". Reading metrics needs the role Monitoring Reader on the account",
    404: ". Is the backend's resource_id right?",
}
_SCOPES = {"https://management.usgovcloudapi.net": "https://management.core.usgovcloudapi.net"}


def open_monitor(url: str) -> "closing[AzureMonitor]":
    """The metrics API with the identity that is signed in to Azure; on loopback without sign-in."""
    is_local = is_loopback(urlsplit(url).hostname or "")
    return closing(AzureMonitor(url, None if is_local else DefaultAzureCredential()))


class AzureMonitor:
    """The metrics API at one address. Without a credential, requests carry no token."""

    def __init__(
        self,
        url: str,
        credential: TokenCredential | None,
        *,
        bounds: Bounds | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._credential = credential
        self._token, self._expires_at = "", 0.0
        self._http = JsonGet(
            "Azure Monitor",
            MonitorUnavailable,
            bounds=bounds or Bounds(),
            sleep=sleep,
            is_local=credential is None,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def recorded(
        self, resource_id: str, first: Window, last: Window
    ) -> dict[OwnDeployment, Recorded]:
        """Each own deployment's usage from `first` to `last`, both included. Raises MonitorUnavailable."""
        hours: defaultdict[OwnDeployment, defaultdict[Window, Tally]]
        hours = defaultdict(lambda: defaultdict(Tally))
        for point in self._points(SUMS, resource_id, first, last) or ():
            found = hours[OwnDeployment(resource_id, point.deployment)]
            tally = Tally(**{FIELDS[point.metric]: point.number})
            found[window_of(point.moment, Period.HOUR)] += tally
        tiers, spilled = None, None
        if hours:
            tiers = self._split(TIERS, resource_id, first, last)
            if tiers is None:
                tiers = self._split(REQUESTED_TIERS, resource_id, first, last)
            spilled = _spilled(self._split(SPILLED, resource_id, first, last))
        return {
            own: Recorded(
                hours=each,
                tiers=None if tiers is None else tiers.get(own),
                spilled_calls=None if spilled is None else spilled[own],
            )
            for own, each in hours.items()
        }

    def _split(
        self, question: Question, resource_id: str, first: Window, last: Window
    ) -> dict[OwnDeployment, dict[str, int]] | None:
        """The sums by deployment and the split's value; None where the account has no such split."""
        found = self._points(question, resource_id, first, last)
        if found is None:
            return None
        sums: defaultdict[OwnDeployment, Counter[str]] = defaultdict(Counter)
        for point in found:
            if point.number:
                sums[OwnDeployment(resource_id, point.deployment)][point.value] += point.number
        return {own: dict(each) for own, each in sums.items()}

    def _points(
        self, question: Question, resource_id: str, first: Window, last: Window
    ) -> list[Point] | None:
        """The numbers of the whole range; None where a split is refused or cannot be used."""
        found: list[Point] = []
        start = first.start
        while start < last.end:
            end = min(start + LONGEST_RANGE, last.end)
            document = self._query(question, resource_id, start, end)
            if document is None:
                return None
            try:
                found += points(document, question, start, end)
            except MonitorUnavailable:
                if not question.split:
                    raise
                return None
            start = end
        return found

    def _query(
        self, question: Question, resource_id: str, start: datetime, end: datetime
    ) -> Document | None:
        parameters = {
            "api-version": API_VERSION,
            "metricnames": ",".join(question.metrics),
            "timespan": f"{_text(start)}/{_text(end)}",
            "interval": INTERVAL,
            "aggregation": "Total",
            "top": MAX_SERIES,
            "$filter": question.filter,
        }
        path = f"{quote(resource_id)}/providers/Microsoft.Insights/metrics"
        url = f"{self._url}{path}?{urlencode(parameters, quote_via=quote)}"
        account = resource_id.rpartition("/")[2]
        answer = self._http.get(url, f"account {account}", self._authorize)
        if not isinstance(answer, Refused):
            return answer
        if question.split and answer.status == 400:
            return None
        raise MonitorUnavailable(answer.message + _HINTS.get(answer.status, ""))

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._credential is not None:
            request.headers["Authorization"] = f"Bearer {self._bearer(self._credential)}"
        return request

    def _bearer(self, credential: TokenCredential) -> str:
        if time.time() >= self._expires_at - RENEW_BEFORE_SECONDS:
            try:
                token = credential.get_token(f"{_SCOPES.get(self._url, self._url)}/.default")
            except AzureError as exc:
                raise MonitorUnavailable(
                    "not signed in to Azure: run `az login`; the role is Monitoring Reader on the "
                    f"accounts ({str(exc).partition('\n')[0][:MAX_QUOTED_CHARS]})"
                ) from exc
            self._token, self._expires_at = token.token, float(token.expires_on)
        return self._token


def _spilled(
    split: Mapping[OwnDeployment, Mapping[str, int]] | None,
) -> Counter[OwnDeployment] | None:
    """The calls with the flag; None where it has values of another kind, since no page names them."""
    calls = Counter[OwnDeployment]()
    for own, each in (split or {}).items():
        if not each.keys() <= _SET | _NOT_SET:
            return None
        calls[own] += sum(number for value, number in each.items() if value in _SET)
    return None if split is None else calls


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
