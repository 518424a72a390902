"""A document in a blob: its version is the etag, so that an unchanged one costs a 304 without a body."""

import asyncio
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobClient

from meter.adapters.blobs.container import BLOB_OPTIONS
from meter.adapters.clients import address_and_identity, new_transport
from meter.adapters.failures import failure_of
from meter.config.addresses import has_blobs_at
from meter.config.stored.address import blob_place
from meter.config.values import AzureEndpoint
from meter.reloading.document import Document, DocumentUnread

MAX_BYTES = 67_108_864
READ_SECONDS = 20.0
ROLE = "Storage Blob Data Reader"
_NOT_MODIFIED = 304


class BlobSource:
    """One blob. Must be closed, and closes its identity."""

    def __init__(
        self, location: str, client: BlobClient, identity: AsyncTokenCredential | None = None
    ) -> None:
        self._location = location
        self._client = client
        self._identity = identity

    @property
    def location(self) -> str:
        """Its address, as the settings have it."""
        return self._location

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        if self._identity is not None:
            await self._identity.close()

    async def read(self, known: str | None) -> Document | None:
        """The document; None where `known` is its version still. Raises DocumentUnread."""
        options: dict[str, Any] = {}
        if known is not None:
            options = {"etag": known, "match_condition": MatchConditions.IfModified}
        try:
            async with asyncio.timeout(READ_SECONDS):
                found = await self._client.download_blob(**options)
                if found.size > MAX_BYTES:
                    raise DocumentUnread(f"{self._location}: larger than {MAX_BYTES} bytes")
                data = await found.readall()
        except (AzureError, OSError) as exc:
            if getattr(exc, "status_code", None) == _NOT_MODIFIED:
                return None
            raise DocumentUnread(f"{self._location}: {_reason(exc)}") from exc
        try:
            return Document(data.decode("utf-8-sig"), str(found.properties.etag))
        except ValueError as exc:
            raise DocumentUnread(f"{self._location}: is not UTF-8") from exc


def build_blob_source(location: str, storage: AzureEndpoint) -> BlobSource:
    """Connect to a blob: with the connection string of its account, if there is one, else an identity.

    `storage` is the account of the tables.
    """
    place = blob_place(location)
    assert place is not None, "settings are checked"
    options: dict[str, Any] = {**BLOB_OPTIONS, "retry_total": 1, "transport": new_transport()}
    text = storage.connection_string
    if text is not None and has_blobs_at(text, place.account_url):
        client = BlobClient.from_connection_string(text, place.container, place.name, **options)
        return BlobSource(location, client)
    address, identity = address_and_identity(
        AzureEndpoint(address=location, client_id=storage.client_id)
    )
    return BlobSource(location, BlobClient.from_blob_url(address, identity, **options), identity)


def _reason(exc: AzureError | OSError) -> str:
    failure = failure_of(exc)
    if failure.is_without_token:
        return "no identity gave a token"
    text = failure.text(type(exc).__name__)
    is_denied = failure.status == 403
    return f"{text}: the role is {ROLE} on the container" if is_denied else text
