"""`meter.reports.export.target` in a container of Azure Blob Storage (azure-storage-blob).

A blob is sent in blocks and exists with its last request, which replaces the one before: nobody reads
half of it. A lease on `LOCK`, renewed while it is held, keeps other writers out.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, BinaryIO

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobLeaseClient, ContainerClient

from meter.adapters.failures import failure_of
from meter.errors import ExportHeld, ExportUnavailable
from meter.reports.export.layout import LOCK
from meter.reports.export.target import Stored

BLOCK_BYTES = 1_048_576
LEASE_SECONDS, RENEWAL_SECONDS = 60, 15.0
BLOB_OPTIONS: Mapping[str, Any] = {
    "max_single_put_size": BLOCK_BYTES,
    "max_block_size": BLOCK_BYTES,
    "retry_total": 4,
}
_TYPES = {
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}
_HELD = frozenset({"LeaseAlreadyPresent", "LeaseIdMismatchWithLeaseOperation", "LeaseLost"})
_DENIED = frozenset({401, 403})
_MISSING = "ContainerNotFound"

log = logging.getLogger(__name__)


class BlobContainer:
    """An export in a container, which is made if it may be. Must be closed, and closes its identity."""

    def __init__(
        self, client: ContainerClient, identity: AsyncTokenCredential | None = None
    ) -> None:
        self._client = client
        self._identity = identity

    @property
    def name(self) -> str:
        """The container's address, without anything secret."""
        return str(self._client.url).partition("?")[0]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        if self._identity is not None:
            await self._identity.close()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator["HeldContainer"]:
        """Lease the lock. It expires by itself when nobody renews it any more."""
        with _translated(self.name):
            lease = await self._lease()
        held = HeldContainer(self._client, self.name)
        renewing = asyncio.create_task(_renew(lease, held.lose))
        try:
            yield held
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with suppress(AzureError):
                await lease.release()

    async def _lease(self) -> BlobLeaseClient:
        blob = self._client.get_blob_client(LOCK)
        try:
            await self._make(blob.upload_blob)
        except HttpResponseError as exc:
            # It is there; or it is leased, which acquiring it will say.
            if not isinstance(exc, ResourceExistsError) and exc.status_code != _PRECONDITION:
                raise
        lease: BlobLeaseClient = await blob.acquire_lease(LEASE_SECONDS)
        return lease

    async def _make(self, upload: Callable[..., Awaitable[Any]]) -> None:
        try:
            await upload(b"", overwrite=False)
        except ResourceNotFoundError as exc:
            if failure_of(exc).code != _MISSING:
                raise
            await self._client.create_container()
            await upload(b"", overwrite=False)


_PRECONDITION = 412


class HeldContainer:
    """The container, while it is leased."""

    def __init__(self, client: ContainerClient, name: str) -> None:
        self._client = client
        self._name = name
        self._is_lost = False

    def lose(self) -> None:
        """Note that the lease could not be renewed: another may have it."""
        self._is_lost = True

    async def read(self, path: str) -> Stored | None:
        """A small file; None if there is none."""
        with _translated(f"{self._name}/{path}"):
            try:
                found = await self._client.download_blob(path)
                return Stored(await found.readall(), str(found.properties.etag))
            except ResourceNotFoundError:
                return None

    async def put(self, path: str, content: BinaryIO, *, replaces: str | None) -> str:
        """Send its blocks, then their list."""
        if self._is_lost:
            raise ExportHeld(f"the lease on {self._name} could not be renewed")
        options: dict[str, Any] = {}
        if replaces is not None:
            options = {"etag": replaces, "match_condition": MatchConditions.IfNotModified}
        ending = path[path.rindex(".") :]
        with _translated(f"{self._name}/{path}"):
            answer = await self._client.get_blob_client(path).upload_blob(
                content,
                overwrite=True,
                content_settings=ContentSettings(
                    content_type=_TYPES.get(ending, "application/gzip")
                ),
                **options,
            )
        return str(answer["etag"])

    async def paths(self, prefix: str) -> list[str]:
        """The paths that begin so, in order."""
        with _translated(self._name):
            names = [name async for name in self._client.list_blob_names(name_starts_with=prefix)]
        return sorted(name for name in names if name != LOCK)

    async def delete(self, path: str) -> None:
        """Delete a file; it may be gone already."""
        with _translated(f"{self._name}/{path}"), suppress(ResourceNotFoundError):
            await self._client.delete_blob(path)


async def _renew(lease: BlobLeaseClient, lose: Callable[[], None]) -> None:
    """Renew until cancelled; a failure is one only once the lease may have expired."""
    loop = asyncio.get_running_loop()
    renewed_at = loop.time()
    while True:
        await asyncio.sleep(RENEWAL_SECONDS)
        try:
            await lease.renew()
            renewed_at = loop.time()
        except AzureError as exc:
            if (
                failure_of(exc).code in _HELD
                or loop.time() > renewed_at + LEASE_SECONDS - RENEWAL_SECONDS
            ):
                log.warning("export_lease_lost reason=%s", type(exc).__name__)
                lose()
                return


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Raise ExportUnavailable for the faults of the SDK and its transport."""
    try:
        yield
    except ResourceModifiedError as exc:
        raise ExportHeld(f"{what} was replaced by another export") from exc
    except (AzureError, OSError) as exc:
        raise _failure(what, exc) from exc


def _failure(what: str, exc: AzureError | OSError) -> ExportUnavailable:
    failure = failure_of(exc)
    if failure.code in _HELD:
        return ExportHeld(f"another export is writing to {what}")
    if failure.is_without_token:
        return ExportUnavailable(f"{what}: no identity gave a token: run `az login`")
    text = failure.text(type(exc).__name__)
    if failure.status in _DENIED:
        text += ": the role is Storage Blob Data Contributor on the container"
    return ExportUnavailable(f"{what}: {text}")
