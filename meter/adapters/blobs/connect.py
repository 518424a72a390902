"""Builds the client of an export's container; apart from the others, which a call needs at once."""

from azure.core.credentials_async import AsyncTokenCredential
from azure.storage.blob.aio import ContainerClient

from meter.adapters.blobs.container import BLOB_OPTIONS, BlobContainer
from meter.adapters.clients import address_and_identity, new_transport
from meter.config.exports import container_endpoint
from meter.config.values import StorageSettings
from meter.errors import InvalidInput


def build_container(text: str, storage: StorageSettings) -> BlobContainer:
    """Connect to a container of Blob Storage. Raises InvalidInput where its address is not known."""
    return BlobContainer(*container_client(text, storage))


def container_client(
    text: str, storage: StorageSettings
) -> tuple[ContainerClient, AsyncTokenCredential | None]:
    """The SDK's client of a container, and who signs in there. Raises InvalidInput."""
    try:
        endpoint, name = container_endpoint(text, storage.endpoint)
        if (connection_string := endpoint.connection_string) is not None:
            client = ContainerClient.from_connection_string(
                connection_string, name, **BLOB_OPTIONS, transport=new_transport()
            )
            return client, None
    except ValueError as exc:
        raise InvalidInput([f"the container {text}: {exc}"]) from None
    address, identity = address_and_identity(endpoint)
    client = ContainerClient.from_container_url(
        address, credential=identity, **BLOB_OPTIONS, transport=new_transport()
    )
    return client, identity
