"""What a link address names: a hub, a partition of a consumer group, or a request node."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from local.eventhubs.broker import Broker, Hub, Partition
from local.eventhubs.codec import Described, Value
from local.eventhubs.performatives import Condition, Refusal

CBS: Final = "$cbs"
MANAGEMENT: Final = "$management"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAddress:
    """`hub` or `hub/Partitions/N`; without a partition, the key or round robin decides."""

    hub: Hub
    partition: Partition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveAddress:
    """`hub/ConsumerGroups/GROUP/Partitions/N`."""

    group: str
    partition: Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddress:
    """`$cbs` or `$management`."""

    name: str


type Address = SendAddress | ReceiveAddress | NodeAddress


def read_address(terminus: Value) -> str:
    """Return the address field of a source or target, empty when there is none."""
    if not isinstance(terminus, Described) or not isinstance(terminus.value, list):
        return ""
    address = terminus.value[0] if terminus.value else None
    return address if isinstance(address, str) else ""


def resolve(address: str, broker: Broker) -> Address | Refusal:
    """Return what an address names, or the reason it names nothing.

    Clients send `hub/...` as well as `amqps://host:port/hub/...`.
    """
    try:
        path = urlsplit(address).path if "://" in address else address
    except ValueError:  # an invalid host, as in `amqps://[`
        return not_found(address)
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[-1].casefold() in (CBS, MANAGEMENT) and len(parts) <= 2:
        return NodeAddress(name=parts[-1].casefold())
    hub = broker.hub(parts[0])
    if hub is None:
        return not_found(parts[0])
    match _keywords(parts[1:]):
        case []:
            return SendAddress(hub=hub, partition=None)
        case ["partitions", partition_id]:
            partition = hub.partitions.get(partition_id)
            if partition is None:
                return no_partition(hub, partition_id)
            return SendAddress(hub=hub, partition=partition)
        case ["consumergroups", group, "partitions", partition_id]:
            return _resolve_receive(hub, group, partition_id)
        case _:
            return not_found(path)


def _resolve_receive(hub: Hub, group: str, partition_id: str) -> Address | Refusal:
    if not hub.has_group(group):
        return not_found(f"{hub.name}:{group}")
    partition = hub.partitions.get(partition_id)
    if partition is None:
        return no_partition(hub, partition_id)
    return ReceiveAddress(group=group.casefold(), partition=partition)


def _keywords(parts: Sequence[str]) -> list[str]:
    """Lower-case the keywords, which alternate with names, and keep the names unchanged."""
    return [part.casefold() if index % 2 == 0 else part for index, part in enumerate(parts)]


def not_found(entity: str) -> Refusal:
    """Return the refusal of a name; .NET's and Node's SDKs recognize it by its wording."""
    return Refusal(Condition.NOT_FOUND, f"The messaging entity {entity!r} could not be found.")


def no_partition(hub: Hub, partition_id: str) -> Refusal:
    """Return the refusal of a partition that the hub does not have."""
    return Refusal(
        Condition.ARGUMENT_OUT_OF_RANGE,
        f"Partition {partition_id!r} of hub {hub.name!r} is invalid:"
        f" the hub has 0 to {len(hub.partitions) - 1}.",
    )
