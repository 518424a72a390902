"""An Event Hubs endpoint in its own process that tests may kill, and its stored messages."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import requests
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient, PartitionContext

from local.child import free_ports
from local.plan import HUB_NAME, KEY_NAME, PARTITIONS
from meter.adapters.clients import hub_trust
from meter.ledger.decode import Message

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "a-key-of-the-tests"
WAIT_SECONDS = 60.0
READ_SECONDS = 120.0  # takes 5 s on an idle machine, and over twice that beside busy processes
_CONFIG = {
    "UserConfig": {
        "NamespaceConfig": [
            {
                "Entities": [
                    {
                        "Name": HUB_NAME,
                        "PartitionCount": PARTITIONS,
                        "ConsumerGroups": [{"Name": "aggregator"}, {"Name": "audit"}],
                    }
                ]
            }
        ]
    }
}


class HubProcess:
    """`python -m local.eventhubs`, on the same port after each restart; its events survive."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Config.json").write_text(json.dumps(_CONFIG))
        self._folder = folder
        self.port, self._health_port = free_ports(2)
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The current process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        words = [sys.executable, "-m", "local.eventhubs", "--port", str(self.port), "--key", KEY]
        words += ["--data", str(self._folder / "data"), "--health-port", str(self._health_port)]
        words += ["--config", str(self._folder / "Config.json")]
        self._process = subprocess.Popen(
            words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("ready")

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate(timeout=WAIT_SECONDS)

    def be_busy(self, sends: int) -> None:
        """Refuse the next sends with server-busy."""
        url = f"http://127.0.0.1:{self._health_port}/busy/{sends}"
        requests.post(url, timeout=WAIT_SECONDS).raise_for_status()


@contextmanager
def running_hub(folder: Path) -> Iterator[HubProcess]:
    """A hub for the length of a test."""
    hub = HubProcess(folder)
    hub.start()
    try:
        yield hub
    finally:
        hub.kill()


def hub_connection_string(port: int) -> str:
    """The connection string of a hub, or of a proxy in front of it."""
    return (
        f"Endpoint=sb://localhost:{port};SharedAccessKeyName={KEY_NAME};"
        f"SharedAccessKey={KEY};UseDevelopmentEmulator=true"
    )


async def read_hub(port: int) -> list[Message]:
    """Every message on the hub, as the aggregator receives it."""
    consumer = EventHubConsumerClient.from_connection_string(
        hub_connection_string(port), "audit", eventhub_name=HUB_NAME, ssl_context=hub_trust()
    )
    found: list[Message] = []
    is_complete = asyncio.Event()

    async def take(partition: PartitionContext, events: list[EventData]) -> None:
        for event in events:
            assert event.sequence_number is not None
            found.append(
                Message(
                    body=b"".join(cast(Iterator[bytes], event.body)),
                    hub_partition=partition.partition_id,
                    sequence_number=event.sequence_number,
                    enqueued_at=event.enqueued_time,
                )
            )
        if len(found) >= total:
            is_complete.set()

    async with consumer:
        partitions = [
            await consumer.get_partition_properties(partition)
            for partition in await consumer.get_partition_ids()
        ]
        total = sum(each["last_enqueued_sequence_number"] + 1 for each in partitions)
        if total == 0:
            return []
        receiving = asyncio.create_task(consumer.receive_batch(take, starting_position="-1"))
        try:
            async with asyncio.timeout(READ_SECONDS):
                await is_complete.wait()
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
    assert len(found) == total
    return found
