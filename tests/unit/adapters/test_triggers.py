"""Hub messages from the Functions host: their bodies, their place on the hub, and the hub's name."""

import json
from datetime import UTC, datetime

import azure.functions as func
import pytest
from azure.functions.meta import Datum

from meter.adapters.functions.triggers import hub_messages
from meter.ledger.decode import Message

NAMES = {"FullyQualifiedNamespace": "ns.servicebus.windows.net", "EventHubName": "usage"}


def event(number: int, context: object, kind: str = "json") -> func.EventHubEvent:
    return func.EventHubEvent(
        body=b"{}",
        trigger_metadata={"PartitionContext": Datum(json.dumps(context), kind)},
        enqueued_time=datetime(2026, 11, 23),  # noqa: DTZ001  # as the host passes it
        sequence_number=number,
    )


@pytest.mark.parametrize("kind", ["json", "string"])
def test_a_message_names_its_hub_and_partition(kind: str) -> None:
    """Two hubs number their messages alike; the context comes as an object or as its JSON."""
    context = {**NAMES, "PartitionId": "3"}
    (message,) = hub_messages([event(7, context, kind)])

    assert message == Message(
        body=b"{}",
        hub="ns.servicebus.windows.net/usage",
        hub_partition="3",
        sequence_number=7,
        enqueued_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("context", "hub"),
    [(None, ""), ({"PartitionId": "3"}, ""), ({"EventHubName": "usage"}, "usage")],
)
def test_a_host_that_names_no_hub_is_served(context: object, hub: str) -> None:
    """The names are for keys and log lines; counting does not need them."""
    assert hub_messages([event(7, context)])[0].hub == hub
