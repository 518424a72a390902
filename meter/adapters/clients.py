"""The SDKs' clients of what the settings name: a connection string, or an address with an identity."""

from collections.abc import Mapping
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables.aio import TableServiceClient
from azure.eventhub.aio import EventHubProducerClient
from azure.identity.aio import DefaultAzureCredential

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.config.values import AzureEndpoint, HubSettings, StorageSettings

# `EventHubSender` has its own retries. The SDK pauses even after its last try, unless told not to.
PRODUCER_OPTIONS: Mapping[str, Any] = {"retry_total": 0, "retry_backoff_factor": 0}


def build_store(settings: StorageSettings) -> TablesRowStore:
    """Connect to Table Storage."""
    endpoint = settings.endpoint
    if endpoint.connection_string is not None:
        service = TableServiceClient.from_connection_string(
            endpoint.connection_string, **CLIENT_OPTIONS
        )
    else:
        assert endpoint.address is not None, "settings name one or the other"
        service = TableServiceClient(
            endpoint.address, credential=_identity(endpoint), **CLIENT_OPTIONS
        )
    return TablesRowStore(service)


def build_producer(settings: HubSettings) -> EventHubProducerClient:
    """Connect to Event Hubs."""
    endpoint = settings.endpoint
    if endpoint.connection_string is not None:
        return EventHubProducerClient.from_connection_string(
            endpoint.connection_string, eventhub_name=settings.name, **PRODUCER_OPTIONS
        )
    assert endpoint.address is not None, "settings name one or the other"
    return EventHubProducerClient(
        endpoint.address, settings.name, _identity(endpoint), **PRODUCER_OPTIONS
    )


def _identity(endpoint: AzureEndpoint) -> AsyncTokenCredential:
    if endpoint.client_id is None:
        return DefaultAzureCredential()
    return DefaultAzureCredential(managed_identity_client_id=endpoint.client_id)
