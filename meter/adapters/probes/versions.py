"""The versions of what runs here, and those that were tested: `requirements.txt`, `host.json`."""

import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from meter.doctor.basics import Versions
from meter.patterns import lazy_pattern

ROOT = Path(__file__).parents[3]
# Those that speak to Azure or to callers.
PACKAGES = (
    "aiohttp",
    "azure-core",
    "azure-data-tables",
    "azure-eventhub",
    "azure-functions",
    "azure-identity",
    "azure-storage-blob",
    "cryptography",
    "pyjwt",
    "starlette",
    "uvicorn",
)
_PIN = lazy_pattern(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def read_versions(program: str, environment: Mapping[str, str], root: Path = ROOT) -> Versions:
    """The versions. `environment` has those of the Functions host, where it is known."""
    pins = dict(_PIN.findall(_text(root / "requirements.txt")))
    return Versions(
        program=program,
        python=platform.python_version(),
        packages={name: (_installed(name), pins.get(name)) for name in PACKAGES},
        bundle=_bundle(root / "host.json"),
        host=environment.get("FUNCTIONS_EXTENSION_VERSION"),
    )


def is_python_supported() -> bool:
    """Whether this is a Python that the app is made for."""
    return tuple(map(int, platform.python_version_tuple()[:2])) >= (3, 13)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _bundle(path: Path) -> str | None:
    try:
        document = json.loads(_text(path))
        return str(document["extensionBundle"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
