"""Writes, reads and deletes a blob of its own in a container; nothing stays.

The container is one that the settings name; or, in the account of the Functions host, one of its own,
since the host makes its containers itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from meter.adapters.blobs.connect import container_client
from meter.adapters.blobs.container import BLOB_OPTIONS
from meter.adapters.clients import address_and_identity, new_transport
from meter.adapters.failures import failure_of
from meter.adapters.probes.network import fault_of
from meter.config.values import AzureEndpoint, StorageSettings
from meter.doctor.answers import Accepted, NoAnswer, NoToken, Outcome, Refused
from meter.errors import InvalidInput
from meter.ports import Dice

PREFIX = "meter-doctor-"
CLEAN_SECONDS = 5.0
_CONTENT = b"doctor"
_MISSING = "ContainerNotFound"


async def try_account(endpoint: AzureEndpoint, dice: Dice) -> Outcome:
    """Whether a container may be created in the account, used and deleted."""
    name = f"{PREFIX}{dice.randbytes(8).hex()}"
    options: dict[str, Any] = {**BLOB_OPTIONS, "transport": new_transport()}
    if (text := endpoint.connection_string) is not None:
        try:
            service, identity = BlobServiceClient.from_connection_string(text, **options), None
        except ValueError:
            return Refused("InvalidConnectionString")
    else:
        address, identity = address_and_identity(endpoint)
        service = BlobServiceClient(address, credential=identity, **options)
    try:
        return await _make_and_use(service.get_container_client(name), dice)
    finally:
        await service.close()
        if identity is not None:
            await identity.close()


async def try_container(text: str, storage: StorageSettings, dice: Dice) -> Outcome:
    """Whether blobs may be written, read and deleted in a container.

    One that does not exist yet is made by its first use, if that may: one beside it is tried then.
    """
    found = await _with_container(text, storage, lambda container: _use(container, dice))
    if not (isinstance(found, Refused) and found.code == _MISSING):
        return found
    base, slash, _ = text.rstrip("/").rpartition("/")
    beside = f"{base}{slash}{PREFIX}{dice.randbytes(8).hex()}"
    made = await _with_container(beside, storage, lambda container: _make_and_use(container, dice))
    return Accepted("allowed; its first use creates it") if isinstance(made, Accepted) else found


async def _with_container(
    text: str, storage: StorageSettings, use: Callable[[ContainerClient], Awaitable[Outcome]]
) -> Outcome:
    try:
        container, identity = container_client(text, storage)
    except InvalidInput:
        return Refused("InvalidAddress")
    try:
        return await use(container)
    finally:
        await container.close()
        if identity is not None:
            await identity.close()


async def _make_and_use(container: ContainerClient, dice: Dice) -> Outcome:
    step = "create a container"
    try:
        await container.create_container()
        try:
            outcome = await _use(container, dice)
        finally:
            step = "delete the container"
            await _shielded(container.delete_container())
    except (AzureError, OSError) as exc:
        return outcome_of(exc, step)
    return outcome


async def _use(container: ContainerClient, dice: Dice) -> Outcome:
    blob = container.get_blob_client(f"{PREFIX}{dice.randbytes(8).hex()}")
    step = "write a blob"
    try:
        await blob.upload_blob(_CONTENT, overwrite=False)
        step = "read a blob"
        try:
            await (await blob.download_blob()).readall()
        finally:
            step = "delete a blob" if step == "read a blob" else step
            await _shielded(blob.delete_blob())
    except (AzureError, OSError) as exc:
        return outcome_of(exc, step)
    return Accepted("write, read and delete a blob: allowed")


async def _shielded(cleaning: Any) -> None:
    """Clean up although the check is being cancelled, in bounded time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLEAN_SECONDS):
            await asyncio.shield(asyncio.ensure_future(cleaning))


def outcome_of(exc: AzureError | OSError, step: str) -> Outcome:
    """What became of a step that failed."""
    failure = failure_of(exc)
    if failure.is_without_token:
        return NoToken()
    if failure.status is not None:
        return Refused(failure.code, failure.status, step)
    return NoAnswer(fault_of(exc))
