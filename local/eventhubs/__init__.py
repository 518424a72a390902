"""A local Azure Event Hubs endpoint: AMQP 1.0 on loopback, durable on disk, standard library only.

The layers, from the wire to the disk:

    endpoint    listens, owns every connection
    connection  bytes to frames, SASL, open and close
    session     transfer windows, attach and detach
    links       one class per kind of link: intake, feed, reply
    namespace   turns an attach into a link, by addresses, selector and tokens
    management  what `$cbs` and `$management` answer
    broker      hubs, partitions, readers and owner levels
    log         one append-only file per partition
    message, performatives, frames, codec   AMQP messages, input, output, types
"""

from local.eventhubs.config import Config, ConfigError, HubConfig
from local.eventhubs.endpoint import Endpoint

__all__ = ["Config", "ConfigError", "Endpoint", "HubConfig"]
