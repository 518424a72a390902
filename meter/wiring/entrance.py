"""Builds the front door's entrance: who may enter, and what is answered without a backend."""

import asyncio
from functools import partial

from meter.adapters.spool import FileSpool
from meter.config.prices import PriceSettings
from meter.config.values import GatewaySettings
from meter.gateway.caller.auth import TokenVerifier
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.limits.admission import Admission
from meter.gateway.own_usage import OwnUsage
from meter.gateway.request.dispatch import Dispatcher
from meter.ports import Clock, RowStore
from meter.reports.own_usage.reader import OwnUsageReader
from meter.reports.pricing.configured import ConfiguredBook
from meter.wiring.books import configured_book


def build_admission(settings: GatewaySettings, keys: KeyRing, clock: Clock) -> Admission:
    """The entrance of one instance."""
    return Admission(
        verifier=TokenVerifier(settings.rules, keys, clock),
        limits=settings.limits.admission,
        new_spool=FileSpool,
    )


def build_book(settings: PriceSettings) -> ConfiguredBook:
    """The app's price book, read in a thread when it is first needed."""
    return ConfiguredBook(read=partial(asyncio.to_thread, configured_book, settings))


def build_dispatcher(
    settings: GatewaySettings, store: RowStore, book: ConfiguredBook, clock: Clock
) -> Dispatcher:
    """What is done with requests, before any backend."""
    reader = OwnUsageReader(store=store, clock=clock, book=book.book)
    return Dispatcher(
        routes=settings.routes,
        own_usage=OwnUsage(reader=reader, clock=clock),
        opencode=settings.opencode,
    )
