"""Azurite in its own process that tests may stop and freeze; a kill would lose rows by itself."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.azurite import azurite_command
from local.child import free_ports, is_free
from local.plan import AZURITE_ACCOUNT, AZURITE_KEY

WAIT_SECONDS = 60.0


class AzuriteProcess:
    """Azurite's tables, on the same port after each restart; its rows survive an orderly stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(("blob", "queue", "table"), free_ports(3), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The URL of the tables."""
        return self._ports["table"]

    def connection_string(self, port: int | None = None) -> str:
        """The connection string of the tables, or of a proxy in front of them."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
            f"TableEndpoint=http://127.0.0.1:{port or self.port}/{AZURITE_ACCOUNT};"
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._process = subprocess.Popen(
            azurite_command(self._folder, self._ports),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + WAIT_SECONDS
        while is_free(self.port):
            assert self._process.poll() is None, "Azurite ended"
            assert time.monotonic() < give_up, "Azurite did not start"
            time.sleep(0.05)  # another process is starting; only polling can observe it

    def stop(self) -> None:
        """SIGTERM; it writes its tables to disk first."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(WAIT_SECONDS)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def restartable_azurite(folder: Path) -> Iterator[AzuriteProcess]:
    """Azurite for the length of a test."""
    process = AzuriteProcess(folder)
    process.start()
    try:
        yield process
    finally:
        process.resume()
        process.stop()
