"""Builders of the ledger's parts on a store, as the app wires them."""

from datetime import datetime

from meter.ledger.aggregator import Aggregator
from meter.ports import RowStore
from tests.fakes.gateway import FakeClock
from tests.support.events import NOW, RETENTION


def aggregator_on(store: RowStore, now: datetime = NOW) -> Aggregator:
    """A newly started aggregator, whose clock shows this moment."""
    return Aggregator(
        store=store,
        clock=FakeClock(moment=now),
        retention=RETENTION,
    )
