"""Builds the SDKs' clients from a connection string, or from an address and an identity.

Each SDK is imported where its client is built: a start needs the hub's alone.
"""

import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

import certifi

from meter.config.values import AzureEndpoint, HubSettings, StorageSettings
from meter.errors import PublishFailed

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.eventhub.aio import EventHubProducerClient

    from meter.adapters.hub.reader import EventHubReader
    from meter.adapters.tables import TablesRowStore, TablesTransport

# `EventHubSender` has its own retries. By default the SDK pauses even after its last try.
HUB_SCOPE = "https://eventhubs.azure.net/.default"  # in all clouds
PRODUCER_OPTIONS: Mapping[str, Any] = {"retry_total": 0, "retry_backoff_factor": 0}
_EMULATED = "usedevelopmentemulator=true"


def build_store(settings: StorageSettings) -> "TablesRowStore":
    """Connect to Table Storage."""
    from azure.data.tables.aio import TableServiceClient

    from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore

    endpoint = settings.endpoint
    options: dict[str, Any] = {**CLIENT_OPTIONS, "transport": new_transport()}
    if (text := endpoint.connection_string) is not None:
        service = TableServiceClient.from_connection_string(text, **options)
        return TablesRowStore(service, sends_directly=not _has_proxy())
    address, identity = address_and_identity(endpoint)
    service = TableServiceClient(address, credential=identity, **options)
    return TablesRowStore(service, identity, sends_directly=not _has_proxy())


def build_producer(settings: HubSettings) -> "EventHubProducerClient":
    """Connect to Event Hubs."""
    from azure.eventhub.aio import EventHubProducerClient

    from meter.adapters.hub.opening import open_quickly

    open_quickly()
    endpoint = settings.endpoint
    if (text := endpoint.connection_string) is not None:
        return EventHubProducerClient.from_connection_string(
            text, eventhub_name=settings.name, ssl_context=_trust_of(text), **PRODUCER_OPTIONS
        )
    address, identity = address_and_identity(endpoint)
    return EventHubProducerClient(
        address, settings.name, identity, ssl_context=hub_trust(), **PRODUCER_OPTIONS
    )


def build_hub_reader(settings: HubSettings) -> "EventHubReader":
    """Connect to Event Hubs, to read along."""
    from azure.eventhub.aio import EventHubConsumerClient

    from meter.adapters.hub.reader import GROUP, EventHubReader

    endpoint = settings.endpoint
    if (text := endpoint.connection_string) is not None:
        consumer = EventHubConsumerClient.from_connection_string(
            text, GROUP, eventhub_name=settings.name, ssl_context=_trust_of(text)
        )
    else:
        address, identity = address_and_identity(endpoint)
        consumer = EventHubConsumerClient(
            address, settings.name, GROUP, identity, ssl_context=hub_trust()
        )
    return EventHubReader(consumer, name=full_name(settings))


@cache
def hub_trust() -> ssl.SSLContext:
    """The authorities that the SDK trusts, for all connections to a hub.

    It would read them again for each: 20 ms or more in which nobody is served. Each partition that is
    asked for its numbers, at each run of the outbox, has a connection of its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authorities())
    return context


def authorities() -> str:
    """The file that `certifi.where` names, which imports what reads archives: 1 % of a start's CPU time."""
    own = Path(certifi.__file__).with_name("cacert.pem")
    # A package that was built for the system's authorities has no file of its own.
    return str(own) if own.is_file() else certifi.where()


def _trust_of(connection_string: str) -> ssl.SSLContext:
    """For an emulator, to which the SDK speaks without TLS, nobody: reading the authorities takes 40 ms."""
    if _EMULATED in connection_string.lower():
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return hub_trust()


def full_name(settings: HubSettings) -> str:
    """The hub, as `namespace/name`."""
    from azure.eventhub import parse_connection_string

    endpoint = settings.endpoint
    if (text := endpoint.connection_string) is not None:
        return f"{parse_connection_string(text).fully_qualified_namespace}/{settings.name}"
    return f"{endpoint.address}/{settings.name}"


async def check_sign_in(settings: HubSettings) -> None:
    """Raise PublishFailed where no identity can get a token for the hub; the SDK does not say so."""
    from azure.core.exceptions import AzureError

    if settings.endpoint.connection_string is not None:
        return
    _, identity = address_and_identity(settings.endpoint)
    async with identity:
        try:
            await identity.get_token(HUB_SCOPE)
        except AzureError as exc:
            raise PublishFailed(
                "not signed in to Azure: run `az login`, or set EventHubConnection; the role is "
                "Azure Event Hubs Data Sender on the event hub"
            ) from exc


def new_transport() -> "TablesTransport":
    """A transport of one client, which closes it."""
    from meter.adapters.tables import TablesTransport

    return TablesTransport(reads_environment=_has_proxy())


def address_and_identity(endpoint: AzureEndpoint) -> "tuple[str, AsyncTokenCredential]":
    """The address of a service without a connection string, and who signs in there."""
    assert endpoint.address is not None, "settings name one or the other"
    return endpoint.address, new_identity(endpoint.client_id)


def new_identity(client_id: str | None) -> "AsyncTokenCredential":
    """The identity that signs in here; of the app's own, the one with that client id. Must be closed."""
    from azure.identity.aio import DefaultAzureCredential

    if client_id is None:  # given as None, it would hide AZURE_CLIENT_ID
        return DefaultAzureCredential()
    return DefaultAzureCredential(managed_identity_client_id=client_id)


def _has_proxy() -> bool:
    return bool(getproxies_environment().keys() - {"no"})
