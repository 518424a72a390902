"""A running app whose backends and limits stand in real blobs that change."""

import json
import logging
from collections.abc import AsyncIterator

import pytest
from azure.storage.blob.aio import ContainerClient

from meter.bootstrap import App
from tests.unit.config.test_environment import BACKEND, REQUIRED
from tests.unit.test_bootstrap import HUB, asked


@pytest.fixture
async def blobs(azurite: str) -> AsyncIterator[ContainerClient]:
    """A container with a good document of each kind."""
    async with ContainerClient.from_connection_string(azurite, "settings") as container:
        if not await container.exists():
            await container.create_container()
        await put(container, "backends.json", [BACKEND])
        await put(container, "limits.json", {"METER_MAX_CONCURRENT_CALLS": 3})
        yield container


async def put(container: ContainerClient, name: str, document: object) -> None:
    await container.upload_blob(name, json.dumps(document), overwrite=True)


def app_on(container: ContainerClient, azurite: str, **others: str) -> App:
    base = container.url.partition("?")[0]
    settings = {
        **REQUIRED,
        "EventHubConnection": HUB,
        "MeterStorage": azurite,
        "METER_BACKENDS": f"{base}/backends.json",
        "METER_LIMITS": f"{base}/limits.json",
        "METER_LOG_LEVEL": "INFO",
        **others,
    }
    return App(lambda: settings)


async def test_blobs_are_read_before_the_first_call_and_again(
    blobs: ContainerClient, azurite: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A good document is used, a bad one refused with a line, and calls meet the last good one."""
    caplog.set_level(logging.INFO, logger="meter.reloading")
    app = app_on(blobs, azurite)
    try:
        refused = await app.answer(*asked("GET", "/openai/v1/models"))
        gateway = app.gateway()
        pool, door = gateway.front_door.instance.forwarder.pool, gateway.front_door
        first = [backend.name for backend in pool.backends], door.admission.slots.total
        await put(blobs, "backends.json", [BACKEND, {**BACKEND, "name": "us"}])
        await put(blobs, "limits.json", {"METER_MAX_CONCURRENT_CALLS": 4})
        await app.stored.check()
        second = [backend.name for backend in pool.backends], door.admission.slots.total
        await put(blobs, "backends.json", [{**BACKEND, "weight": 0}])
        await app.stored.check()
        await app.stored.check()
        third = [backend.name for backend in pool.backends]
    finally:
        await app.close()

    assert refused.status_code == 401
    assert (first, second, third) == ((["eu"], 3), (["eu", "us"], 4), ["eu", "us"])
    said = [each.getMessage() for each in caplog.records if "reloading" in each.name]
    assert said[:2] == [
        "reloaded setting=METER_BACKENDS changes=added us",
        "reloaded setting=METER_LIMITS changes=limits",
    ]
    (alert,) = said[2:]
    assert alert.startswith("reload_refused setting=METER_BACKENDS problems=METER_BACKENDS weight")


async def test_a_blob_that_is_not_there_is_told_and_tried_again(
    blobs: ContainerClient, azurite: str
) -> None:
    """Until it is there no call can be answered; `/readyz` says so without naming it."""
    await blobs.delete_blob("backends.json")
    app = app_on(blobs, azurite)
    try:
        answers = [
            await app.answer(*asked("GET", path)) for path in ("/openai/v1/models", "/readyz")
        ]
    finally:
        await app.close()

    assert [answer.status_code for answer in answers] == [503, 503]
    assert json.loads(bytes(answers[1].body))["settings"] == [
        "METER_BACKENDS is the address of a blob that cannot be read"
    ]


@pytest.mark.parametrize("never", ["0", "off"])
async def test_never_is_a_choice(blobs: ContainerClient, azurite: str, never: str) -> None:
    """Then nothing runs, and what was read at the start is used."""
    app = app_on(blobs, azurite, METER_RELOAD_SECONDS=never)
    try:
        await app.answer(*asked("GET", "/openai/v1/models"))
        await put(blobs, "limits.json", {"METER_MAX_CONCURRENT_CALLS": 9})
        await app.stored.check()
        total = app.gateway().front_door.admission.slots.total
    finally:
        await app.close()

    assert total == 3
