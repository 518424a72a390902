"""azure-eventhub, imported without what receives events and what gathers them in the SDK's own buffers.

Its packages import all of it, which is 4 % of a start's CPU time; the front door has one producer.
"""

from meter.adapters.libraries.later import run_later

run_later(
    "azure.eventhub", EventData="_common", parse_connection_string="_connection_string_parser"
)
run_later("azure.eventhub.aio", EventHubProducerClient="_producer_client_async")

# ruff: noqa: E402
from azure.eventhub import EventData as EventData  # after that
from azure.eventhub.aio import EventHubProducerClient as EventHubProducerClient
from azure.eventhub.amqp import AmqpAnnotatedMessage as AmqpAnnotatedMessage
from azure.eventhub.exceptions import ClientClosedError as ClientClosedError
from azure.eventhub.exceptions import EventHubError as EventHubError
from azure.eventhub.exceptions import OperationTimeoutError as OperationTimeoutError
