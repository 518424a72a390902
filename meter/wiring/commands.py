"""Opens for the commands what the environment names.

The SDKs are imported here, when a command runs, so that `--help` answers at once.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from meter.ports import Clock
from meter.wiring.stored.current import current_reconcile_settings as current_reconcile_settings
from meter.wiring.stored.current import known_backends as known_backends

if TYPE_CHECKING:
    from meter.adapters.eventhub import EventHubSender
    from meter.adapters.hub.reader import EventHubReader
    from meter.adapters.monitor.metrics import AzureMonitor
    from meter.adapters.retail.api import RetailPrices
    from meter.adapters.tables import TablesRowStore
    from meter.ledger.aggregator import Aggregator
    from meter.upkeep.closing.views import ClosedViews


def storage_environment(storage: str | None) -> Mapping[str, str]:
    """The settings of the tables that a program names; None: those in the environment.

    `storage` is a connection string, or the tables' address. Raises InvalidSettings.
    """
    from meter.config.environment import load_storage_settings

    environment: Mapping[str, str] = os.environ
    if storage is not None:
        is_address = storage.strip().lower().startswith(("https://", "http://"))
        name = "MeterStorage__tableServiceUri" if is_address else "MeterStorage"
        identity = {"AZURE_CLIENT_ID", "MeterStorage__clientId"}
        kept = {key: value for key, value in os.environ.items() if key in identity}
        environment = {**kept, name: storage}
    load_storage_settings(environment)
    return environment


@asynccontextmanager
async def open_store(
    environment: Mapping[str, str] = os.environ,
) -> AsyncIterator["TablesRowStore"]:
    """The tables that the environment names, closed at the end. Raises InvalidSettings."""
    from meter.adapters.clients import build_store
    from meter.config.environment import load_storage_settings

    store = build_store(load_storage_settings(environment))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_views(
    environment: Mapping[str, str] = os.environ,
) -> AsyncIterator["ClosedViews"]:
    """The same tables for reports: of closed months the numbers that were closed."""
    from meter.upkeep.closing.views import closed_views

    async with open_store(environment) as store:
        yield await closed_views(store)


@asynccontextmanager
async def open_sender() -> AsyncIterator["EventHubSender"]:
    """The hub that the environment names, closed at the end. Raises InvalidSettings, PublishFailed."""
    from meter.adapters.clients import check_sign_in
    from meter.config.environment import load_publish_settings
    from meter.wiring.metering import build_sender

    hub = load_publish_settings(os.environ).hub
    await check_sign_in(hub)
    # A command waits longer than a call does.
    sender = build_sender(hub, patience_seconds=30.0)
    try:
        yield sender
    finally:
        await sender.close()


@asynccontextmanager
async def open_hub_reader() -> AsyncIterator["EventHubReader"]:
    """The hub that the environment names, to read along. Raises InvalidSettings, PublishFailed."""
    from meter.adapters.clients import build_hub_reader, check_sign_in
    from meter.config.environment import load_publish_settings

    hub = load_publish_settings(os.environ).hub
    await check_sign_in(hub)
    reader = build_hub_reader(hub)
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def open_aggregator() -> AsyncIterator["Aggregator"]:
    """An aggregator on the tables that the environment names. Raises InvalidSettings."""
    async with open_repairs() as (_, aggregator):
        yield aggregator


@asynccontextmanager
async def open_repairs(
    clock: Clock | None = None,
) -> AsyncIterator[tuple["TablesRowStore", "Aggregator"]]:
    """The tables, and an aggregator on them. Raises InvalidSettings."""
    from meter.config.environment import load_storage_settings
    from meter.wiring.counting import build_aggregator

    retention = load_storage_settings(os.environ).retention
    async with open_store() as store:
        yield store, build_aggregator(store, retention, clock=clock)


def open_monitor(url: str) -> AbstractContextManager["AzureMonitor"]:
    """Azure Monitor's metrics API at an address, with the identity that is signed in to Azure."""
    from meter.adapters.monitor.metrics import open_monitor

    return open_monitor(url)


def open_retail_prices() -> AbstractContextManager["RetailPrices"]:
    """Azure's Retail Prices API at the address in the environment. Raises InvalidSettings."""
    from meter.adapters.retail.api import open_retail_prices
    from meter.config.environment import load_retail_prices_url

    return open_retail_prices(load_retail_prices_url(os.environ))
