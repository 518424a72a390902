"""A message with usage events, for azure-eventhub."""

from collections.abc import Sequence

from meter.adapters.libraries.eventhub import EventData
from meter.usage import BATCH_CONTENT_TYPE, encode_batch


def message_of(events: Sequence[bytes]) -> EventData:
    """A message with a CloudEvents batch of encoded events."""
    message = EventData(encode_batch(events))
    message.content_type = BATCH_CONTENT_TYPE
    return message
