"""Azurite's command line; without the library of its telemetry it starts in half the time."""

from collections.abc import Mapping
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PROGRAM = _HERE.parent / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"


def azurite_command(folder: Path, ports: Mapping[str, int]) -> list[str]:
    """The command, for a folder of its own and the loopback ports of `blob`, `queue` and `table`."""
    words = ["node", "--require", str(_HERE / "without_telemetry.cjs"), str(_PROGRAM)]
    words += ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(folder)]
    for service in ("blob", "queue", "table"):
        words += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(ports[service])]
    return words
