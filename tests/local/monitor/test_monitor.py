"""The stand-in for Azure Monitor answers as the real API is documented and reported to answer."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest

from local.monitor.numbers import Key, numbers_of_calls
from local.monitor.server import StandInMonitor
from local.openai.server import StandIn
from meter.window import Period, window_of
from tests.support.reconcile import EAST, WEST
from tests.support.running import REPOSITORY

DAY = window_of(datetime.now(UTC) - timedelta(days=2), Period.DAY)
QUERY = {
    "api-version": "2024-02-01",
    "metricnames": "TokenTransaction",
    "timespan": f"{DAY.name}T00:00:00Z/{DAY.name}T03:00:00Z",
    "interval": "PT1H",
    "aggregation": "Total",
    "$filter": "ModelDeploymentName eq '*'",
}
PATH = f"{EAST}/providers/microsoft.insights/metrics"


class Client:
    """Queries the stand-in over plain HTTP."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._session = session

    async def get(
        self,
        path: str = PATH,
        *,
        token: str = "",
        changes: Mapping[str, str | None] = MappingProxyType({}),
    ) -> tuple[int, Any]:
        """Status and body. `changes` replace parameters of a good query; None removes one."""
        query = {name: value for name, value in {**QUERY, **changes}.items() if value is not None}
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with self._session.get(
            self._address + path, params=query, headers=headers
        ) as response:
            return response.status, await response.json()

    async def names(self, **changes: str) -> list[str]:
        """The deployments of a good answer."""
        _, body = await self.get(changes=changes)
        return [each["metadatavalues"][0]["value"] for each in body["value"][0]["timeseries"]]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def client(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Client]:
    hour = f"{DAY.name}T01"
    numbers = {
        f"d{number:02}": {hour: {"prompt_tokens": 10 + number, "completion_tokens": 5}}
        for number in range(12)
    }
    (tmp_path / "east.json").write_text(json.dumps(numbers))
    stand_in = StandInMonitor({EAST.upper(): str(tmp_path / "east.json")})
    yield Client(await stand_in.start(), session)
    await stand_in.stop()


async def test_an_answer_has_azures_shape(client: Client) -> None:
    """As in Azure Monitor's REST walkthrough: lower-case dimension names, empty hours with 0."""
    status, body = await client.get(changes={"$filter": "ModelDeploymentName eq 'D03'"})

    assert status == 200
    assert body["timespan"] == QUERY["timespan"]
    assert body["interval"] == "PT1H"
    (metric,) = body["value"]
    assert (metric["name"]["value"], metric["errorCode"]) == ("TokenTransaction", "Success")
    (series,) = metric["timeseries"]
    assert series["metadatavalues"][0]["name"]["value"] == "modeldeploymentname"
    assert series["data"] == [
        {"timeStamp": f"{DAY.name}T00:00:00Z", "total": 0.0},
        {"timeStamp": f"{DAY.name}T01:00:00Z", "total": 18.0},
        {"timeStamp": f"{DAY.name}T02:00:00Z", "total": 0.0},
    ]


async def test_ten_series_are_shown_unless_more_are_requested(client: Client) -> None:
    """This is the default of `top`, which silently omits the rest."""
    assert len(await client.names()) == 10
    assert len(await client.names(top="12")) == 12


async def test_a_filter_takes_names_and_or(client: Client) -> None:
    """Names are case-insensitive."""
    both = "ModelDeploymentName eq 'd01' or modeldeploymentname eq 'D02'"

    assert await client.names(**{"$filter": both}) == ["d01", "d02"]


async def test_a_series_is_made_for_each_combination_of_values(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """`and` joins dimensions, `or` the values of one; a metric has only some of the dimensions."""
    entries = [
        {"calls": 1, "prompt_tokens": 5},
        {"calls": 2, "service_tier": "priority", "requested_tier": "priority"},
        {"calls": 4, "is_spillover": True},
        {"calls": 8, "status": 429},
    ]
    (tmp_path / "east.json").write_text(json.dumps({"spill-and-x": {f"{DAY.name}T01": entries}}))
    stand_in = StandInMonitor({EAST: str(tmp_path / "east.json")})
    client = Client(await stand_in.start(), session)
    changes = {
        "metricnames": "AzureOpenAIRequests",
        "$filter": "ModelDeploymentName eq 'spill-and-x' and StatusCode eq '200' or StatusCode eq '201' "
        "and isspillover eq '*' and ServiceTierResponse eq '*'",
    }
    _, body = await client.get(changes=changes)
    await stand_in.stop()

    series = body["value"][0]["timeseries"]
    names = ["modeldeploymentname", "statuscode", "isspillover", "servicetierresponse"]
    assert [value["name"]["value"] for value in series[0]["metadatavalues"]] == names
    assert {
        tuple(value["value"] for value in each["metadatavalues"]): each["data"][1]["total"]
        for each in series
    } == {
        ("spill-and-x", "200", "False", "default"): 1.0,
        ("spill-and-x", "200", "False", "priority"): 2.0,
        ("spill-and-x", "200", "True", "default"): 4.0,
    }


async def test_without_a_filter_all_deployments_are_one_series(client: Client) -> None:
    """The series is a total, without dimension values."""
    _, body = await client.get(changes={"$filter": None})

    (series,) = body["value"][0]["timeseries"]
    assert series["metadatavalues"] == []
    assert series["data"][1]["total"] == 246.0


async def test_of_a_range_over_30_days_only_the_last_30_are_answered(client: Client) -> None:
    """Only the answer's own range shows it."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(days=40)
    asked = f"{start:%Y-%m-%dT%H}:00:00Z/{end:%Y-%m-%dT%H}:00:00Z"
    _, body = await client.get(changes={"timespan": asked})

    shown = end - timedelta(days=30)
    assert body["timespan"] == f"{shown:%Y-%m-%dT%H}:00:00Z/{end:%Y-%m-%dT%H}:00:00Z"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"api-version": None}, "api-version"),
        ({"metricnames": "Tokenz"}, "Failed to find metric configuration"),
        ({"metricnames": None}, "Failed to find metric configuration"),
        ({"interval": "P1D"}, "PT1H only"),
        ({"aggregation": "Average"}, "Total only"),
        ({"timespan": "yesterday"}, "Invalid timespan"),
        ({"timespan": f"{DAY.name}T03:00:00Z/{DAY.name}T03:00:00Z"}, "start time"),
        ({"timespan": "2020-01-01T00:00:00Z/2020-01-02T00:00:00Z"}, "93.00:00:00"),
        ({"$filter": "everything"}, "Invalid filter"),
        ({"$filter": "ModelDeploymentName eq 'a' or StatusCode eq '200'"}, "Invalid filter"),
        (
            {"$filter": "ModelDeploymentName eq '*' and IsSpillover eq '*'"},
            "TokenTransaction does not support requested dimension combination: "
            "modeldeploymentname,isspillover, supported ones are: ModelDeploymentName,",
        ),
        ({"top": "0"}, "TopN"),
        ({"top": "2147483648"}, "TopN"),
    ],
)
async def test_a_wrong_query_is_refused(
    client: Client, changes: dict[str, str | None], text: str
) -> None:
    """The answer is a 400 with a reason."""
    status, body = await client.get(changes=changes)

    assert status == 400
    assert text in body["error"]["message"]


async def test_an_unknown_account_or_path_is_404(client: Client) -> None:
    """The errors are those of Azure Resource Manager."""
    status, body = await client.get(PATH.replace("/east/", "/north/"))
    other_status, _ = await client.get(f"{EAST}/deployments")

    assert (status, body["error"]["code"]) == (404, "ResourceNotFound")
    assert other_status == 404


async def test_a_faults_answer_has_azures_words_and_its_own_headers(
    client: Client, session: aiohttp.ClientSession
) -> None:
    """A fault queued over HTTP strikes once; an invalid one is refused with the reason."""
    address = client._address
    throttle = {"status": 429, "headers": {"retry-after": "3"}}
    async with session.post(f"{address}/_faults", json=throttle) as response:
        assert response.status == 204
    async with session.post(f"{address}/_faults", json={"stutus": 1}) as response:
        assert "stutus" in (await response.json())["error"]
    async with session.get(address + PATH, params=QUERY) as response:
        assert response.headers["retry-after"] == "3"
        assert (await response.json())["error"]["code"] == "ResourceRequestsThrottled"
    await session.post(f"{address}/_faults", json=throttle)
    await session.delete(f"{address}/_faults")

    assert (await client.get())[0] == 200


async def test_a_token_is_required_if_one_is_set(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Another token or none gets a 401."""
    (tmp_path / "east.json").write_text("{}")
    stand_in = StandInMonitor({EAST: str(tmp_path / "east.json")}, token="right")
    client = Client(await stand_in.start(), session)
    statuses = [(await client.get(token=token))[0] for token in ("", "wrong", "right")]
    await stand_in.stop()

    assert statuses == [401, 401, 200]


async def test_an_accounts_record_adds_up_by_deployment_and_hour() -> None:
    """Both spellings of usage; a refused call is a request without tokens."""
    call = {"deployment": "a", "at": "2026-11-22T07:59:59.999+00:00", "usage": None}
    chat = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    embedding = {"prompt_tokens": 7, "total_tokens": 7}
    response = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    calls = [{**call, "usage": usage} for usage in (chat, embedding, response, None)]
    numbers = numbers_of_calls(calls)

    assert numbers == {
        Key("2026-11-22T07", "ProcessedPromptTokens", "a"): 20,
        Key("2026-11-22T07", "GeneratedTokens", "a"): 9,
        Key("2026-11-22T07", "TokenTransaction", "a"): 29,
        Key("2026-11-22T07", "AzureOpenAIRequests", "a"): 4,
    }


async def test_an_accounts_record_keeps_tiers_spillover_and_tools_apart() -> None:
    """By the names that the record has for them."""
    call = {
        "deployment": "a",
        "at": "2026-11-22T07:00:00.000+00:00",
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "status": 200,
        "service_tier": "default",
        "requested_tier": "priority",
        "spilled_from": "ptu",
        "tools": [{"deployment": "image", "counts": {"completion_tokens": 7}}],
    }
    numbers = {key: number for key, number in numbers_of_calls([call]).items() if number}

    spilled = Key("2026-11-22T07", "TokenTransaction", "a", "default", "priority", "True", "200")
    assert numbers[spilled] == 15
    assert numbers[spilled._replace(metric="AzureOpenAIRequests")] == 1
    assert numbers[Key("2026-11-22T07", "TokenTransaction", "image")] == 7
    assert len(numbers) == 6


async def test_the_command_serves_what_a_stand_in_account_recorded(
    session: aiohttp.ClientSession,
) -> None:
    """`python -m local.monitor` prints ready and its port, and ends with SIGTERM."""
    account = StandIn("west")
    url = f"http://127.0.0.1:{await account.start()}"
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two"}]}
    await session.post(f"{url}/openai/v1/chat/completions", json=body)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.monitor", "--account", f"{WEST}={url}"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    word, port = (await process.stdout.readline()).decode().split()
    day = timedelta(days=1)
    start, end = (f"{datetime.now(UTC) + add:%Y-%m-%d}T00:00:00Z" for add in (-day, day))
    _, answer = await Client(int(port), session).get(
        PATH.replace("/east/", "/west/"), changes={"timespan": f"{start}/{end}"}
    )
    process.terminate()
    await process.wait()
    await account.stop()

    (series,) = answer["value"][0]["timeseries"]
    assert (word, process.returncode) == ("ready", 0)
    assert series["metadatavalues"][0]["value"] == "gpt-4o"
    assert sum(point["total"] for point in series["data"]) == 15
