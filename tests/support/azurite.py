"""Azurite for tests: one process serves many storage accounts, which know nothing of each other."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.azurite import azurite_command
from local.child import free_ports, is_free
from local.plan import AZURITE_KEY

START_SECONDS = 60.0
MOST_ACCOUNTS = 200


@contextmanager
def running_azurite(folder: Path) -> Iterator[Iterator[str]]:
    """Azurite on free loopback ports; gives connection strings, each of another empty account."""
    ports = dict(zip(("blob", "queue", "table"), free_ports(3), strict=True))
    accounts = [f"account{number}" for number in range(MOST_ACCOUNTS)]
    process = subprocess.Popen(
        azurite_command(folder, ports),
        env=os.environ | {"AZURITE_ACCOUNTS": ";".join(f"{a}:{AZURITE_KEY}" for a in accounts)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up = time.monotonic() + START_SECONDS
        while is_free(ports["table"]):
            assert process.poll() is None, "Azurite ended"
            assert time.monotonic() < give_up, "Azurite did not start"
            time.sleep(0.05)  # another process starts; there is nothing else to wait for
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={AZURITE_KEY};"
            f"TableEndpoint=http://127.0.0.1:{ports['table']}/{account};"
            f"BlobEndpoint=http://127.0.0.1:{ports['blob']}/{account};"
            for account in accounts
        )
    finally:
        process.terminate()
        process.wait(START_SECONDS)
