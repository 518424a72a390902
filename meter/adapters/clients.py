"""Builds the SDKs' clients from a connection string, or from an address and an identity."""

from collections.abc import Mapping
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables.aio import TableServiceClient
from azure.eventhub.aio import EventHubProducerClient
from azure.identity.aio import DefaultAzureCredential

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.config.values import AzureEndpoint, HubSettings, StorageSettings

# `EventHubSender` has its own retries. By default the SDK pauses even after its last try.
PRODUCER_OPTIONS: Mapping[str, Any] = {"retry_total": 0, "retry_backoff_factor": 0}


def build_store(settings: StorageSettings) -> TablesRowStore:
    """Connect to Table Storage."""
    endpoint = settings.endpoint
    if (text := endpoint.connection_string) is not None:
        return TablesRowStore(TableServiceClient.from_connection_string(text, **CLIENT_OPTIONS))
    address, identity = _address_and_identity(endpoint)
    service = TableServiceClient(address, credential=identity, **CLIENT_OPTIONS)
    return TablesRowStore(service, identity)


def build_producer(settings: HubSettings) -> EventHubProducerClient:
    """Connect to Event Hubs."""
    endpoint = settings.endpoint
    if (text := endpoint.connection_string) is not None:
        return EventHubProducerClient.from_connection_string(
            text, eventhub_name=settings.name, **PRODUCER_OPTIONS
        )
    address, identity = _address_and_identity(endpoint)
    return EventHubProducerClient(address, settings.name, identity, **PRODUCER_OPTIONS)


def _address_and_identity(endpoint: AzureEndpoint) -> tuple[str, AsyncTokenCredential]:
    assert endpoint.address is not None, "settings name one or the other"
    if endpoint.client_id is None:
        return endpoint.address, DefaultAzureCredential()
    return endpoint.address, DefaultAzureCredential(managed_identity_client_id=endpoint.client_id)
