"""Opens a link to send to the hub, and one to read from it, and sends and takes nothing.

Event Hubs checks the right to send, or to listen, when a link is attached: an event would prove no
more, and would be counted. The reader attaches in the aggregator's consumer group without an epoch, at
the end of a partition: the trigger, which has an epoch, is never disturbed, and while it holds the
partition ours is refused as `stolen` after the rights have been checked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient, EventHubProducerClient, PartitionContext
from azure.eventhub.exceptions import AuthenticationError, EventHubError

from meter.adapters.clients import PRODUCER_OPTIONS, address_and_identity
from meter.adapters.probes.network import fault_of
from meter.config.values import HubSettings
from meter.doctor.answers import Accepted, NoAnswer, NoToken, Outcome, Refused

GROUP = "aggregator"
LINK_SECONDS = 15.0
QUIET_SECONDS = 0.5
CLOSE_SECONDS = 3.0
_UNAUTHORIZED = "unauthorized-access"
_STOLEN = "stolen"
_FAULTS = (EventHubError, AzureError, TimeoutError, OSError, ValueError)


async def try_to_send(hub: HubSettings) -> Outcome:
    """Open a link to send. It is closed without an event."""
    opened = Accepted("allowed: a link was opened, and nothing sent")
    return await _with_client(hub, EventHubProducerClient, {}, _open_sender, opened)


async def try_to_receive(hub: HubSettings) -> Outcome:
    """Open a link to read, at the end of the first partition."""
    group = {"consumer_group": GROUP}
    opened = Accepted(f"allowed: a link was opened in {GROUP}, and nothing taken")
    return await _with_client(hub, EventHubConsumerClient, group, _open_reader, opened)


async def _open_sender(producer: Any) -> None:
    await producer.create_batch()  # opens the link


async def _open_reader(consumer: Any) -> None:
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(_: PartitionContext, __: Sequence[EventData]) -> None:
        if not opened.done():
            opened.set_result(None)

    async def fail(_: PartitionContext, error: Exception) -> None:
        if not opened.done():
            opened.set_exception(error)

    first, *_ = await consumer.get_partition_ids()
    receiving = asyncio.create_task(
        consumer.receive_batch(
            take,
            on_error=fail,
            partition_id=first,
            starting_position="@latest",
            max_wait_time=QUIET_SECONDS,
            prefetch=1,
        )
    )
    try:
        await opened
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def _with_client(
    hub: HubSettings,
    kind: Any,
    options: dict[str, str],
    use: Callable[[Any], Awaitable[None]],
    opened: Accepted,
) -> Outcome:
    endpoint, identity = hub.endpoint, None
    if (text := endpoint.connection_string) is not None:
        client = kind.from_connection_string(
            text, eventhub_name=hub.name, **options, **PRODUCER_OPTIONS
        )
    else:
        address, identity = address_and_identity(endpoint)
        client = kind(
            fully_qualified_namespace=address,
            eventhub_name=hub.name,
            credential=identity,
            **options,
            **PRODUCER_OPTIONS,
        )
    try:
        async with asyncio.timeout(LINK_SECONDS):
            await use(client)
    except _FAULTS as exc:
        return _outcome(exc)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.close()
        if identity is not None:
            await identity.close()
    return opened


def _outcome(exc: Exception) -> Outcome:
    if _is_without_token(exc):
        return NoToken()
    condition = str(getattr(exc, "error", None) or "")
    condition = str(getattr(condition, "value", condition)).rpartition(":")[2]
    if _STOLEN in condition:
        return Accepted(
            "allowed: the aggregator holds the partition, after the rights were checked"
        )
    if isinstance(exc, AuthenticationError) or condition == _UNAUTHORIZED:
        return Refused(_UNAUTHORIZED, 401)
    if condition and condition != "socket-error":
        return Refused(condition)
    return NoAnswer(fault_of(exc))


def _is_without_token(exc: BaseException | None) -> bool:
    """Whether azure-identity gave no token: the SDK wraps its error in its own."""
    while exc is not None:
        if isinstance(exc, ClientAuthenticationError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
