"""Builders of the ledger's parts on a store, as the app wires them."""

from datetime import datetime

from meter.ledger.aggregator import Aggregator
from meter.ledger.keys import Dimensions
from meter.ports import RowStore
from tests.fakes.gateway import FakeClock
from tests.support.events import NOW, RETENTION


def aggregator_on(store: RowStore, now: datetime = NOW) -> Aggregator:
    """A newly started aggregator, whose clock shows this moment."""
    return Aggregator(
        store=store,
        clock=FakeClock(moment=now),
        retention=RETENTION,
        writer="one",
    )


def dimensions(**names: str) -> Dimensions:
    """Dimensions of a call of alice's, but for those that are given."""
    usual = {
        "subject": "alice",
        "client_app": "app",
        "deployment": "gpt-4o",
        "model": "gpt-4o-2024-11-20",
        "backend": "east",
        "tier": "standard",
        "context": "short",
    }
    return Dimensions(**{**usual, **names})
