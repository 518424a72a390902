"""The checks of Event Hubs, of the tables and of blobs."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from copy import replace
from functools import partial

from meter.adapters.probes.blobs import try_account, try_container
from meter.adapters.probes.hub import GROUP, try_to_receive, try_to_send
from meter.adapters.probes.tables import try_outbox, try_tables, try_to_read
from meter.config.exports import container_endpoint
from meter.config.reader import is_reference
from meter.config.values import AzureEndpoint, SettingsParts, StorageSettings
from meter.doctor.answers import Outcome
from meter.doctor.basics import Offsets
from meter.doctor.checking import Check
from meter.doctor.finding import Area, Finding
from meter.doctor.services import (
    BLOB_CONTRIBUTOR,
    BLOB_OWNER,
    HUB_RECEIVER,
    HUB_SENDER,
    TABLE_CONTRIBUTOR,
    TABLE_READER,
    Place,
    judge,
)
from meter.doctor.unreached import unasked
from meter.ports import Clock, Dice
from meter.publishing.outbox import OUTBOX_TABLE


def hub_checks(parts: SettingsParts) -> list[Check]:
    """The rights to the hub: to send for calls and the outbox, to receive where calls are counted."""
    hub = parts.hub
    endpoint = None if hub is None else hub.endpoint
    name = "METER_EVENT_HUB" if hub is None else hub.name
    no_group = f"no hub, or no consumer group {GROUP!r}"
    rights = (
        (parts.sends, "send", HUB_SENDER, "the hub does not exist", try_to_send),
        (parts.counts, "receive", HUB_RECEIVER, no_group, try_to_receive),
    )
    return [
        _check(
            Place(
                area=Area.HUB,
                name=f"{name} ({right})",
                tried=right,
                role=role,
                scope="EVENT_HUB_RESOURCE_ID",
                missing=missing,
            ),
            endpoint,
            hub,
            probe,
        )
        for is_needed, right, role, missing, probe in rights
        if is_needed
    ]


def table_checks(
    parts: SettingsParts, *, clock: Clock, dice: Dice, offsets: Offsets
) -> list[Check]:
    """The rights to tables: to all of them where calls are counted, else to write one and to read."""
    storage = parts.storage
    endpoint = None if storage is None else storage.endpoint
    whole = Place(
        area=Area.TABLES,
        name="tables",
        tried="create, write, read, delete",
        role=TABLE_CONTRIBUTOR,
        scope="DATA_ACCOUNT_RESOURCE_ID",
    )
    if parts.counts:
        probe = partial(try_tables, clock=clock, dice=dice, offsets=offsets)
        return [_check(whole, endpoint, storage, probe)]
    outbox = replace(
        whole,
        name=OUTBOX_TABLE,
        tried="write",
        scope=f"{whole.scope}/tableServices/default/tables/{OUTBOX_TABLE}",
    )
    reading = replace(whole, tried="read", role=TABLE_READER)
    return [
        _check(outbox, endpoint, storage, partial(try_outbox, dice=dice)),
        _check(reading, endpoint, storage, partial(try_to_read, clock=clock, offsets=offsets)),
    ]


def blob_checks(parts: SettingsParts, container: str | None, dice: Dice) -> list[Check]:
    """The rights to blobs: of the Functions host, and for exports, where the settings name them."""
    host, storage = parts.host_blobs, parts.storage
    checks = []
    if host is not None:
        place = Place(
            area=Area.BLOBS,
            name="AzureWebJobsStorage",
            tried="create, write, read, delete",
            role=BLOB_OWNER,
            scope="RUNTIME_ACCOUNT_RESOURCE_ID",
        )
        checks.append(_check(place, host, host, partial(try_account, dice=dice)))
    if container is not None:
        place = Place(
            area=Area.BLOBS,
            name="METER_EXPORT_CONTAINER",
            tried="write, read, delete",
            role=BLOB_CONTRIBUTOR,
            scope="CONTAINER_RESOURCE_ID",
            missing="the container does not exist",
        )
        endpoint = None if storage is None else _endpoint_of(container, storage)
        checks.append(
            _check(place, endpoint, storage, partial(try_container, container, dice=dice))
        )
    return checks


def _endpoint_of(container: str, storage: StorageSettings) -> AzureEndpoint | None:
    """How the container is reached; None where its address is not known."""
    with suppress(ValueError):
        return container_endpoint(container, storage.endpoint)[0]
    return None


def _check[P](
    place: Place,
    endpoint: AzureEndpoint | None,
    part: P | None,
    probe: Callable[[P], Awaitable[Outcome]],
) -> Check:
    """The check that probes a part of the settings; None where that is not valid."""
    texts = () if endpoint is None else (endpoint.connection_string, endpoint.address)
    has_key = endpoint is not None and endpoint.connection_string is not None

    async def run() -> Sequence[Finding]:
        is_unresolved = any(map(is_reference, texts))
        if part is None or is_unresolved:
            return [unasked(place, is_reference=is_unresolved, what="connection")]
        return [judge(replace(place, has_key=has_key), await probe(part))]

    return Check(area=place.area, name=place.name, run=run)
