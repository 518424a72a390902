"""The checks of Event Hubs, of the tables and of blobs."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from meter.adapters.probes.blobs import try_account, try_container
from meter.adapters.probes.hub import GROUP, try_to_receive, try_to_send
from meter.adapters.probes.tables import try_tables
from meter.config.exports import container_endpoint
from meter.config.values import AzureEndpoint, SettingsParts, StorageSettings
from meter.doctor.answers import Outcome
from meter.doctor.basics import Offsets, is_reference
from meter.doctor.checking import Check
from meter.doctor.finding import Area, Finding
from meter.doctor.services import (
    BLOB_CONTRIBUTOR,
    BLOB_OWNER,
    HUB_RECEIVER,
    HUB_SENDER,
    TABLE_CONTRIBUTOR,
    Place,
    judge,
    unread,
)
from meter.ports import Clock, Dice

type _Probe = Callable[[], Awaitable[Outcome]]


def hub_checks(parts: SettingsParts) -> list[Check]:
    """The rights to send to the hub, and to receive from it."""
    hub = parts.hub
    endpoint = None if hub is None else hub.endpoint
    name = "METER_EVENT_HUB" if hub is None else hub.name
    rights = (
        ("send", HUB_SENDER, "the hub does not exist", try_to_send),
        ("receive", HUB_RECEIVER, f"no hub, or no consumer group {GROUP!r}", try_to_receive),
    )
    return [
        _check(
            Place(
                area=Area.HUB,
                name=f"{name} ({right})",
                tried=right,
                role=role,
                scope="EVENT_HUB_RESOURCE_ID",
                has_key=_has_key(endpoint),
                missing=missing,
            ),
            endpoint,
            None if hub is None else partial(probe, hub),
        )
        for right, role, missing, probe in rights
    ]


def table_check(parts: SettingsParts, *, clock: Clock, dice: Dice, offsets: Offsets) -> Check:
    """The right to create, write, read and delete tables and rows."""
    storage = parts.storage
    endpoint = None if storage is None else storage.endpoint
    place = Place(
        area=Area.TABLES,
        name="tables",
        tried="create, write, read, delete",
        role=TABLE_CONTRIBUTOR,
        scope="DATA_ACCOUNT_RESOURCE_ID",
        has_key=_has_key(endpoint),
    )
    probe = partial(try_tables, clock=clock, dice=dice, offsets=offsets)
    return _check(place, endpoint, None if storage is None else partial(probe, storage))


def blob_checks(parts: SettingsParts, container: str | None, dice: Dice) -> list[Check]:
    """The rights to blobs: of the Functions host, and for exports, where the settings name them."""
    checks = []
    if (host := parts.host_blobs) is not None:
        place = Place(
            area=Area.BLOBS,
            name="AzureWebJobsStorage",
            tried="create, write, read, delete",
            role=BLOB_OWNER,
            scope="RUNTIME_ACCOUNT_RESOURCE_ID",
            has_key=_has_key(host),
        )
        checks.append(_check(place, host, partial(try_account, host, dice)))
    if container is not None:
        storage = parts.storage
        endpoint = None if storage is None else _endpoint_of(container, storage)
        place = Place(
            area=Area.BLOBS,
            name="METER_EXPORT_CONTAINER",
            tried="write, read, delete",
            role=BLOB_CONTRIBUTOR,
            scope="CONTAINER_RESOURCE_ID",
            has_key=_has_key(endpoint),
            missing="the container does not exist",
        )
        probe = None if storage is None else partial(try_container, container, storage, dice)
        checks.append(_check(place, endpoint, probe))
    return checks


def _endpoint_of(container: str, storage: StorageSettings) -> AzureEndpoint | None:
    """How the container is reached; None where its address is not known."""
    with suppress(ValueError):
        return container_endpoint(container, storage.endpoint)[0]
    return None


def _has_key(endpoint: AzureEndpoint | None) -> bool:
    return endpoint is not None and endpoint.connection_string is not None


def _check(place: Place, endpoint: AzureEndpoint | None, probe: _Probe | None) -> Check:
    async def run() -> Sequence[Finding]:
        unresolved = endpoint is not None and any(
            map(is_reference, (endpoint.connection_string, endpoint.address))
        )
        if probe is None or unresolved:
            return [unread(place, is_reference=unresolved)]
        return [judge(place, await probe())]

    return Check(area=place.area, name=place.name, run=run)
