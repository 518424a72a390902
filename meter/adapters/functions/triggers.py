"""Parses what the Functions host passes to a trigger."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC

import azure.functions as func

from meter.ledger.decode import Message


def hub_messages(events: Sequence[func.EventHubEvent]) -> list[Message]:
    """The messages of one trigger batch.

    The batch's metadata is read once: through the events it would be converted once per event.
    """
    partition = _hub_partition(events[0].metadata) if events else ""
    return [
        Message(
            body=event.get_body(),
            hub_partition=partition,
            sequence_number=event.sequence_number or 0,
            enqueued_at=event.enqueued_time.replace(tzinfo=UTC) if event.enqueued_time else None,
        )
        for event in events
    ]


def _hub_partition(metadata: Mapping[str, object] | None) -> str:
    context = (metadata or {}).get("PartitionContext")
    if isinstance(context, str):
        context = json.loads(context)
    return str(context.get("PartitionId", "")) if isinstance(context, dict) else ""
