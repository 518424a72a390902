"""Azure Monitor's metrics API and its adapter: numbers, limits, faults and garbage."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from local.child import free_ports
from local.monitor.server import StandInMonitor
from local.openai.faults import Fault
from meter.adapters.json_get import Bounds
from meter.adapters.monitor.answer import MAX_SERIES
from meter.adapters.monitor.metrics import AzureMonitor
from meter.errors import MonitorUnavailable
from meter.reports.tally import OwnDeployment, Recorded, Tally
from meter.window import Period, Window, window_of
from tests.support.reconcile import EAST, own, tally

# The stand-in, like Azure, keeps metrics for 93 days.
FIRST = window_of(datetime.now(UTC) - timedelta(days=2), Period.DAY)
HOURS = [Window(f"{FIRST.name}T{hour:02}") for hour in range(24)]
BOUNDS = Bounds(connect_seconds=10, silence_seconds=20, total_seconds=60, document_bytes=1_000_000)

type Found = dict[OwnDeployment, Recorded]


class Credential:
    """A sign-in that hands out one token, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.scopes: list[str] = []
        self._fails = fails

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """The token; its calls are counted."""
        self.scopes += scopes
        if self._fails:
            raise ClientAuthenticationError("no account is signed in\nlong explanation")
        return AccessToken("secret-token", int(time.time()) + 3600)


class Meeting:
    """An adapter and the stand-in it talks to. `slept` are the waits it asked for."""

    def __init__(self, stand_in: StandInMonitor, port: int, numbers: Path) -> None:
        self.stand_in = stand_in
        self.slept: list[float] = []
        self._numbers = numbers
        self._url = f"http://127.0.0.1:{port}"
        self.monitor = AzureMonitor(self._url, None, bounds=BOUNDS, sleep=self.slept.append)

    def wait_no_longer_than(self, *, silence_seconds: float, total_seconds: float) -> None:
        """Go on with an adapter of less patience."""
        self.monitor.close()
        bounds = Bounds(silence_seconds=silence_seconds, total_seconds=total_seconds)
        self.monitor = AzureMonitor(self._url, None, bounds=bounds, sleep=self.slept.append)

    def record(self, numbers: object) -> None:
        """Set what Azure has recorded from now on."""
        self._numbers.write_text(json.dumps(numbers))

    def fail(self, *faults: Fault) -> None:
        """Make the next requests fail in this way."""
        for fault in faults:
            self.stand_in.faults.add(fault)

    async def ask(
        self, first: Window = HOURS[0], last: Window = HOURS[-1], account: str = EAST
    ) -> Found:
        """Read with the adapter, which blocks, in a thread of its own."""
        return await asyncio.to_thread(self.monitor.recorded, account, first, last)

    async def refusal(self) -> str:
        """The message of its final error."""
        with pytest.raises(MonitorUnavailable) as refused:
            await self.ask()
        return str(refused.value)


@pytest.fixture
async def meeting(tmp_path: Path) -> AsyncIterator[Meeting]:
    numbers = tmp_path / "numbers.json"
    numbers.write_text("{}")
    stand_in = StandInMonitor({EAST: str(numbers)})
    met = Meeting(stand_in, await stand_in.start(), numbers)
    yield met
    met.monitor.close()
    await stand_in.stop()


def entry(prompt: int, completion: int = 0, calls: int = 1, **more: object) -> dict[str, object]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "calls": calls, **more}


def queries(stand_in: StandInMonitor) -> list[dict[str, str]]:
    return [request["query"] for request in stand_in.requests if isinstance(request["query"], dict)]


def busy(found: Found) -> dict[OwnDeployment, dict[Window, Tally]]:
    """Without the hours without usage, which Azure also lists."""
    return {
        name: {window: each for window, each in recorded.hours.items() if each != Tally()}
        for name, recorded in found.items()
    }


async def test_numbers_come_by_deployment_and_hour(meeting: Meeting) -> None:
    """Prompt, completion and total tokens, and calls; names are case-insensitive."""
    meeting.record(
        {
            "GPT-4o": {HOURS[0].name: entry(10, 5, 2), HOURS[23].name: entry(7)},
            "embed": {HOURS[7].name: entry(3)},
        }
    )

    assert busy(await meeting.ask()) == {
        own("gpt-4o"): {HOURS[0]: tally(10, 5, 2), HOURS[23]: tally(7, 0, 1)},
        own("embed"): {HOURS[7]: tally(3, 0, 1)},
    }


async def test_hours_outside_of_the_range_are_left_out(meeting: Meeting) -> None:
    """Both ends are included, and nothing beyond them."""
    meeting.record({"a": {hour.name: entry(1) for hour in HOURS[4:9]}})

    found = await meeting.ask(HOURS[5], HOURS[7])
    assert list(busy(found)[own("a")]) == HOURS[5:8]


async def test_an_account_without_calls_is_empty_and_no_error(meeting: Meeting) -> None:
    """An account without calls has empty series."""
    assert await meeting.ask() == {}


async def test_more_deployments_than_azure_shows_by_default_are_all_read(meeting: Meeting) -> None:
    """Azure returns 10 series unless more are requested."""
    meeting.record({f"d{number}": {HOURS[0].name: entry(1)} for number in range(40)})

    assert len(await meeting.ask()) == 40


async def test_as_many_deployments_as_requested_may_be_cut_and_are_refused(
    meeting: Meeting,
) -> None:
    """A list that is as long as its limit may lack some."""
    most = MAX_SERIES
    meeting.record({f"d{number}": {HOURS[0].name: entry(1)} for number in range(most)})

    with pytest.raises(MonitorUnavailable, match="1000 deployments or more"):
        await meeting.ask(HOURS[0], HOURS[0])


async def test_a_long_range_is_requested_in_pieces_that_azure_answers_whole(
    meeting: Meeting,
) -> None:
    """Azure answers only the last 30 days of a longer range; pieces join without gap or overlap."""
    days = [FIRST.start - timedelta(days=day) for day in range(80)]
    meeting.record({"a": {window_of(day, Period.HOUR).name: entry(1) for day in days}})
    found = await meeting.ask(window_of(days[-1], Period.HOUR), HOURS[-1])

    assert sum(each.prompt_tokens for each in found[own("a")].hours.values()) == 80
    asked = [each["metricnames"] for each in queries(meeting.stand_in)]
    assert [asked.count(each) for each in dict.fromkeys(asked)] == [12, 12, 12]


async def test_a_request_is_what_azure_documents(meeting: Meeting) -> None:
    """The request has metric names, dimension, interval, range and version."""
    await meeting.ask()

    (request,) = meeting.stand_in.requests
    assert request["path"] == f"{EAST}/providers/Microsoft.Insights/metrics"
    assert request["query"] == {
        "api-version": "2024-02-01",
        "metricnames": "ProcessedPromptTokens,GeneratedTokens,TokenTransaction,AzureOpenAIRequests",
        "timespan": f"{HOURS[0].name}:00:00Z/{HOURS[-1].end:%Y-%m-%dT%H}:00:00Z",
        "interval": "PT1H",
        "aggregation": "Total",
        "top": "1000",
        "$filter": "ModelDeploymentName eq '*'",
    }


async def test_tokens_are_split_by_the_tier_of_the_answer(meeting: Meeting) -> None:
    """Azure bills by it; a call that asked for priority may have been answered at default."""
    meeting.record(
        {
            "a": {
                HOURS[0].name: [
                    entry(10, 5),
                    entry(1, service_tier="priority"),
                    entry(2, service_tier="default", requested_tier="priority"),
                ],
                HOURS[1].name: entry(4, service_tier="Priority"),
            },
            "b": {HOURS[0].name: entry(8)},
        }
    )
    found = await meeting.ask()

    assert found[own("a")].tiers == {"default": 17, "priority": 5}
    assert found[own("b")].tiers == {"default": 8}


async def test_spilled_calls_are_those_that_were_served(meeting: Meeting) -> None:
    """A throttled call is recorded beside the served one."""
    meeting.record(
        {
            "ptu": {HOURS[0].name: [entry(9), entry(0, calls=3, is_spillover=True, status=429)]},
            "spill": {HOURS[0].name: [entry(9, calls=3, is_spillover=True), entry(1)]},
        }
    )
    found = await meeting.ask()

    assert {name.name: each.spilled_calls for name, each in found.items()} == {"ptu": 0, "spill": 3}


@pytest.mark.parametrize(
    ("value", "calls"), [("True", 3), ("1", 3), ("False", 0), ("__Empty", 0), ("Partly", None)]
)
async def test_a_flag_of_unknown_values_is_no_split(
    meeting: Meeting, value: str, calls: int | None
) -> None:
    """Microsoft names no values: taking an unknown one for no would hide spilled calls."""
    point = {"timeStamp": f"{HOURS[0].name}:00:00Z", "total": 3}
    names = {"modeldeploymentname": "a", "isspillover": value}
    values = [{"name": {"value": name}, "value": each} for name, each in names.items()]
    flagged = _with_series([{"metadatavalues": values, "data": [point]}], "AzureOpenAIRequests")
    meeting.fail(Fault(body=_with_point(total=7), count=2), Fault(body=flagged))
    found = await meeting.ask()

    assert found[own("a")].spilled_calls == calls


async def test_splits_are_asked_for_as_azure_documents(meeting: Meeting) -> None:
    """Each with its dimension, of the metrics that have it; the sums are asked for without."""
    meeting.record({"a": {HOURS[0].name: entry(1)}})
    await meeting.ask()

    deployments = "ModelDeploymentName eq '*'"
    asked = queries(meeting.stand_in)
    assert [(each["metricnames"], each["$filter"]) for each in asked[1:]] == [
        ("TokenTransaction", f"{deployments} and ServiceTierResponse eq '*'"),
        (
            "AzureOpenAIRequests",
            f"{deployments} and IsSpillover eq '*' and StatusCode eq '200'",
        ),
    ]
    assert asked[0]["$filter"] == deployments


async def test_an_account_without_splits_is_read_without(tmp_path: Path) -> None:
    """Azure refuses the dimension; the sums are there all the same, and it is asked once only."""
    numbers = tmp_path / "numbers.json"
    stand_in = StandInMonitor({EAST: str(numbers)}, has_splits=False)
    meeting = Meeting(stand_in, await stand_in.start(), numbers)
    meeting.record({"a": {HOURS[0].name: entry(1, service_tier="priority", is_spillover=True)}})
    earliest = window_of(FIRST.start - timedelta(days=20), Period.HOUR)
    found = await meeting.ask(earliest)
    meeting.monitor.close()
    await stand_in.stop()

    assert found[own("a")].tiers is None
    assert found[own("a")].spilled_calls is None
    assert busy(found) == {own("a"): {HOURS[0]: tally(1, 0, 1)}}
    asked = [each["metricnames"] for each in queries(stand_in)]
    assert asked[3:] == ["TokenTransaction", "TokenTransaction", "AzureOpenAIRequests"]


async def test_a_split_that_cannot_be_used_is_left_out(meeting: Meeting) -> None:
    """It is only shown: what is judged is not lost for it. Here the answer lacks its dimension."""
    undivided = _with_point("TokenTransaction", total=7)
    meeting.fail(Fault(body=undivided, count=3), Fault(body=_answer(value=[])))
    found = await meeting.ask()

    assert len(meeting.stand_in.requests) == 4
    assert found[own("a")].hours[HOURS[0]] == Tally(total_tokens=7)
    assert (found[own("a")].tiers, found[own("a")].spilled_calls) == (None, None)


async def test_a_deployment_that_is_not_split_has_no_tiers(meeting: Meeting) -> None:
    """Azure splits the tokens of some models only: nothing is compared with a 0 that is none."""
    meeting.fail(Fault(body=_with_point("TokenTransaction", total=7)), Fault(body=_answer()))
    found = await meeting.ask()

    assert found[own("a")].tiers is None


async def test_a_split_that_is_not_answered_fails_as_the_sums_do(meeting: Meeting) -> None:
    """Whether the account has it is not known then."""
    meeting.record({"a": {HOURS[0].name: entry(1)}})
    meeting.fail(Fault(body=_with_point(total=7)), Fault(status=403))

    assert "403 AuthorizationFailed" in await meeting.refusal()


async def test_without_a_credential_there_is_no_sign_in(meeting: Meeting) -> None:
    """Without a credential no header is sent."""
    await meeting.ask()

    assert meeting.stand_in.requests[0]["authorization"] is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_a_failure_that_may_pass_is_retried(meeting: Meeting, status: int) -> None:
    """With growing waits where the service names none."""
    meeting.record({"a": {HOURS[0].name: entry(1)}})
    meeting.fail(Fault(status=status, count=3))

    assert busy(await meeting.ask()) == {own("a"): {HOURS[0]: tally(1, 0, 1)}}
    assert meeting.slept == [1, 2, 4]


async def test_a_named_wait_is_obeyed(meeting: Meeting) -> None:
    """The wait is `Retry-After`, in seconds."""
    meeting.fail(Fault(status=429, headers={"retry-after": "17"}))
    await meeting.ask()

    assert meeting.slept == [17]


async def test_a_wait_that_is_not_in_seconds_is_ignored(meeting: Meeting) -> None:
    """RFC 9110 allows a date, but Azure Resource Manager does not send one."""
    meeting.fail(Fault(status=429, headers={"retry-after": "Mon, 23 Nov 2026 07:30:00 GMT"}))
    await meeting.ask()

    assert meeting.slept == [1]


async def test_a_wait_of_minutes_is_reported_and_not_waited_for(meeting: Meeting) -> None:
    """The operator decides, with Azure's own words."""
    meeting.fail(Fault(status=429, headers={"retry-after": "309"}))

    message = await meeting.refusal()
    assert "account east: 429 ResourceRequestsThrottled" in message
    assert message.endswith("it asks to wait 309 s")
    assert meeting.slept == []


async def test_a_failure_that_does_not_pass_is_given_up(meeting: Meeting) -> None:
    """After five attempts."""
    meeting.fail(Fault(status=503, count=None))

    assert (await meeting.refusal()).endswith("given up after 5 attempts")
    assert len(meeting.stand_in.requests) == 5
    assert meeting.slept == [1, 2, 4, 8]


@pytest.mark.parametrize(
    "fault",
    [Fault(hang=True), Fault(reset=True), Fault(cut_after_bytes=20), Fault(delay_ms=4_000)],
    ids=["silent", "reset", "cut", "late"],
)
async def test_an_answer_that_does_not_arrive_is_requested_again(
    meeting: Meeting, fault: Fault
) -> None:
    """No answer in time, a reset connection, half a body."""
    meeting.wait_no_longer_than(silence_seconds=1.5, total_seconds=60)
    meeting.record({"a": {HOURS[0].name: entry(1)}})
    meeting.fail(fault)

    assert busy(await meeting.ask()) == {own("a"): {HOURS[0]: tally(1, 0, 1)}}
    assert meeting.slept == [1]


async def test_an_unreachable_address_is_reported() -> None:
    """Nothing listens there."""
    (port,) = free_ports(1)
    slept: list[float] = []
    unreachable = AzureMonitor(f"http://127.0.0.1:{port}", None, bounds=BOUNDS, sleep=slept.append)

    with pytest.raises(MonitorUnavailable, match=r"east: no answer \(ConnectionError\); given up"):
        await asyncio.to_thread(unreachable.recorded, EAST, HOURS[0], HOURS[1])
    assert len(slept) == 4


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (401, "InternalServerError", "az login"),
        (403, "AuthorizationFailed", "Monitoring Reader"),
        (400, "InternalServerError", "occurred."),
    ],
)
async def test_a_refusal_is_reported_with_azures_words_and_what_to_do(
    meeting: Meeting, status: int, code: str, hint: str
) -> None:
    """It is not retried, since that would not help."""
    meeting.fail(Fault(status=status))

    message = await meeting.refusal()
    assert message.startswith(f"Azure Monitor, account east: {status} {code}")
    assert hint in message
    assert meeting.slept == []


async def test_an_account_that_does_not_exist_is_reported(meeting: Meeting) -> None:
    """The usual cause is a wrong resource id."""
    with pytest.raises(MonitorUnavailable, match=r"404 ResourceNotFound.*resource_id right\?"):
        await meeting.ask(account=EAST.replace("/east", "/nowhere"))


async def test_a_redirect_is_not_followed(meeting: Meeting) -> None:
    """The sign-in's token is for one address only."""
    meeting.fail(Fault(status=302, headers={"location": "/elsewhere"}))

    assert "account east: 302" in await meeting.refusal()
    assert len(meeting.stand_in.requests) == 1


def _answer(**changes: object) -> dict[str, Any]:
    end = f"{HOURS[-1].end:%Y-%m-%dT%H}:00:00Z"
    whole: dict[str, Any] = {
        "timespan": f"{HOURS[0].name}:00:00Z/{end}",
        "interval": "PT1H",
        "value": [
            {"name": {"value": name}, "timeseries": [], "errorCode": "Success"}
            for name in (
                "ProcessedPromptTokens",
                "GeneratedTokens",
                "TokenTransaction",
                "AzureOpenAIRequests",
            )
        ],
    }
    return {**whole, **changes}


def _with_series(series: object, metric: str = "ProcessedPromptTokens") -> dict[str, Any]:
    whole = _answer()
    (found,) = [each for each in whole["value"] if each["name"]["value"] == metric]
    found["timeseries"] = series
    return whole


def _with_point(metric: str = "ProcessedPromptTokens", **point: object) -> dict[str, Any]:
    name = {"name": {"value": "modeldeploymentname"}, "value": "a"}
    whole = {"timeStamp": f"{HOURS[0].name}:00:00Z", **point}
    return _with_series([{"metadatavalues": [name], "data": [whole]}], metric)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html>", "no JSON object"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ({}, "timespan"),
        (_answer(interval="P1D"), "interval is P1D"),
        (_answer(timespan=f"{HOURS[3].name}:00:00Z/{HOURS[-1].end:%Y-%m-%d}"), "covers"),
        (_answer(timespan=f"{HOURS[0].name}:00:00Z/{HOURS[-1].name}:00:00Z"), "covers"),
        (_answer(timespan="always"), "always"),
        (_answer(value=None), "a list"),
        (_answer(value=_answer()["value"][:3]), "azureopenairequests"),
        (_answer(value=[{"name": None}]), "a name"),
        (
            _answer(
                value=[{**_answer()["value"][0], "errorCode": "Oops", "errorMessage": "no\x1b[2J"}]
            ),
            r"no\\x1b\[2J",
        ),
        (_with_series({}), "a list"),
        (_with_series([{"metadatavalues": [], "data": []}]), "modeldeploymentname"),
        (_with_point(total="12"), "no number"),
        (_with_point(total=True), "no number"),
        (_with_point(total=-1), "a total is -1"),
        (_with_point(timeStamp="soon", total=1), "soon"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_no_number(
    meeting: Meeting, body: object, reason: str
) -> None:
    """Nothing is guessed: zero would look like a difference, or like agreement."""
    meeting.fail(Fault(body=body))

    with pytest.raises(MonitorUnavailable, match=reason):
        await meeting.ask()
    assert meeting.slept == []


@pytest.mark.parametrize("text", ['"total": NaN', '"total": Infinity', f'"total": 1{"0" * 400}'])
async def test_a_total_beyond_all_numbers_is_refused(meeting: Meeting, text: str) -> None:
    """Python's parser accepts them, arithmetic does not."""
    body = json.dumps(_with_point(total=0)).replace('"total": 0', text)
    meeting.fail(Fault(body=body))

    assert "cannot be used" in await meeting.refusal()


@pytest.mark.parametrize(
    ("point", "tokens"), [({}, 0), ({"total": None}, 0), ({"total": 12.0}, 12), ({"total": 7}, 7)]
)
async def test_a_total_may_be_a_decimal_or_left_out(
    meeting: Meeting, point: dict[str, Any], tokens: int
) -> None:
    """Azure writes decimals, and omits the total of an hour without data."""
    meeting.fail(Fault(body=_with_point(**point)))
    found = await meeting.ask()

    assert found[own("a")].hours[HOURS[0]] == Tally(prompt_tokens=tokens)


async def test_a_number_from_outside_of_the_range_is_left_out(meeting: Meeting) -> None:
    """An hour that belongs to the next piece of the range must not count twice."""
    meeting.fail(Fault(body=_with_point(timeStamp=f"{HOURS[-1].end:%Y-%m-%dT%H}:00:00Z", total=7)))

    assert await meeting.ask() == {}


async def test_an_endless_answer_is_given_up(meeting: Meeting) -> None:
    """Its size is limited."""
    meeting.fail(Fault(body="x" * 1_200_000))

    assert await meeting.refusal() == "Azure Monitor's answer is too large"


async def test_a_body_that_trickles_is_given_up(meeting: Meeting) -> None:
    """Each piece is in time, but the whole takes too long."""
    meeting.wait_no_longer_than(silence_seconds=20, total_seconds=0.3)
    meeting.fail(Fault(body="x" * 40, split_bytes=1, chunk_delay_ms=100, count=None))

    assert "no answer" in await meeting.refusal()


@pytest.mark.parametrize(
    ("url", "scope"),
    [
        ("https://management.azure.com", "https://management.azure.com/.default"),
        ("https://management.chinacloudapi.cn", "https://management.chinacloudapi.cn/.default"),
        (
            "https://management.usgovcloudapi.net",
            "https://management.core.usgovcloudapi.net/.default",
        ),
    ],
)
def test_the_token_is_for_the_clouds_own_resource_manager(url: str, scope: str) -> None:
    """As azure-mgmt-core has them; a token for another address is never requested."""
    credential = Credential(fails=True)

    with pytest.raises(
        MonitorUnavailable,
        match=r"^not signed in to Azure: run `az login`; .*\(no account is signed in\)$",
    ):
        AzureMonitor(url, credential).recorded(EAST, HOURS[0], HOURS[0])
    assert credential.scopes == [scope]


async def test_a_token_is_sent_as_bearer_and_requested_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a .netrc file has a password for that host."""
    (tmp_path / "numbers.json").write_text("{}")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    stand_in = StandInMonitor({EAST: str(tmp_path / "numbers.json")}, token="secret-token")
    credential = Credential()
    monitor = AzureMonitor(f"http://127.0.0.1:{await stand_in.start()}", credential, bounds=BOUNDS)
    await asyncio.to_thread(monitor.recorded, EAST, HOURS[0], HOURS[0])
    await asyncio.to_thread(monitor.recorded, EAST, HOURS[1], HOURS[1])
    monitor.close()
    await stand_in.stop()

    assert {request["authorization"] for request in stand_in.requests} == {"Bearer secret-token"}
    assert len(credential.scopes) == 1
