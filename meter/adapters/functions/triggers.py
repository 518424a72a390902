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
    hub, partition = _place(events[0].metadata) if events else ("", "")
    return [
        Message(
            body=event.get_body(),
            hub=hub,
            hub_partition=partition,
            sequence_number=event.sequence_number or 0,
            enqueued_at=event.enqueued_time.replace(tzinfo=UTC) if event.enqueued_time else None,
        )
        for event in events
    ]


def _place(metadata: Mapping[str, object] | None) -> tuple[str, str]:
    """The hub, as `namespace/name`, and the id of its partition."""
    context = (metadata or {}).get("PartitionContext")
    if isinstance(context, str):
        context = json.loads(context)
    if not isinstance(context, dict):
        return "", ""
    names = (str(context.get(name) or "") for name in ("FullyQualifiedNamespace", "EventHubName"))
    return "/".join(filter(None, names)), str(context.get("PartitionId", ""))
