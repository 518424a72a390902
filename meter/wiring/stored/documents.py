"""Reads the blobs that settings name, before the settings are read."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, field

from meter.adapters.documents.file import FileSource
from meter.config.environment import document_storage
from meter.config.stored.address import Documents as Documents
from meter.config.stored.address import Unread, is_address
from meter.config.stored.locations import blob_addresses
from meter.config.values import AzureEndpoint
from meter.ports import Clock
from meter.reloading.document import DocumentSource, DocumentUnread

RETRY_SECONDS = 5.0


class ClosableSource(DocumentSource, Protocol):
    """A source that holds connections."""

    async def close(self) -> None:
        """Close them."""


def source_of(location: str, storage: AzureEndpoint) -> ClosableSource:
    """Where a document is read from."""
    if not is_address(location):
        return FileSource(location)
    # The blobs' SDK is no part of a cold start without blobs.
    from meter.adapters.documents.blob import build_blob_source

    return build_blob_source(location, storage)


async def fetch_documents(environment: Mapping[str, str]) -> Documents:
    """What the blobs hold, or why they cannot be read, by address."""
    storage = document_storage(environment)
    addresses = blob_addresses(environment)
    found = await asyncio.gather(*(_fetch(address, storage) for address in addresses))
    return dict(zip(addresses, found, strict=True))


def current_documents(environment: Mapping[str, str]) -> Documents:
    """The same, for commands, which have no event loop."""
    return asyncio.run(fetch_documents(environment)) if blob_addresses(environment) else {}


class FirstDocuments(Struct, kw_only=True):
    """The blobs as they are when the app begins; those that cannot be read are tried again at later calls."""

    clock: Clock
    documents: Documents = field(default_factory=dict)
    _retry_at: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fetch(self, environment: Mapping[str, str]) -> Documents:
        """What is known of them."""
        addresses = blob_addresses(environment)
        if all(isinstance(self.documents.get(each), str) for each in addresses):
            return self.documents
        async with self._turn:
            if self.clock.monotonic() >= self._retry_at:
                self.documents = await fetch_documents(environment)
                self._retry_at = self.clock.monotonic() + RETRY_SECONDS
        return self.documents


async def _fetch(address: str, storage: AzureEndpoint) -> str | Unread:
    source = source_of(address, storage)
    try:
        document = await source.read(None)
    except DocumentUnread as exc:
        return Unread(str(exc).removeprefix(f"{address}: "))
    finally:
        await source.close()
    return Unread("no answer") if document is None else document.text
