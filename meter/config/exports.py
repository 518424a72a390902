"""Reads where the nightly export goes, and what it is made from beside the tables.

No call depends on it, so a problem here is no problem of the settings: it is kept beside them.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from meter.config.addresses import has_blobs_at, shown
from meter.config.reader import Reader
from meter.config.values import AzureEndpoint
from meter.gateway.address import is_allowed_url, is_loopback
from meter.patterns import lazy_pattern

CONTAINER, CAPACITY = "METER_EXPORT_CONTAINER", "METER_CAPACITY"
ACCOUNT = "METER_EXPORT_BILLING_ACCOUNT"
_NAME = lazy_pattern(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_TABLES, _BLOBS = ".table.", ".blob."


class ExportSettings(Struct, frozen=True, kw_only=True):
    """Where the nightly export goes, and what it is made from beside the tables and the price book.

    Without a container there is none. `problems` are of these settings: calls do not need them.
    """

    container: str | None = None
    capacity: str | None = None
    billing_account: str | None = None
    problems: tuple[str, ...] = ()


def load_export_settings(environment: Mapping[str, str]) -> ExportSettings:
    """The export's settings; their problems are in the value."""
    reader = Reader(environment)
    container = reader.text(CONTAINER) or None
    if container is not None and (problem := container_problem(container)):
        reader.problem(CONTAINER, problem)
    return ExportSettings(
        container=container,
        capacity=reader.text(CAPACITY) or None,
        billing_account=reader.text(ACCOUNT) or None,
        problems=tuple(map(str, reader.problems)),
    )


def container_problem(text: str) -> str | None:
    """Why a text names no container; None when it does."""
    if _NAME.fullmatch(text):
        return None
    parts = urlsplit(text)
    host, names = (parts.hostname or "").lower(), parts.path.strip("/").split("/")
    is_url = is_allowed_url(text) and "?" not in text and "#" not in text
    is_azure = "blob" in host.split(".")[1:3] and len(names) == 1
    if is_url and (is_azure or is_loopback(host)) and _NAME.fullmatch(names[-1]):
        return None
    return (
        "must be a container's name, or its address without a signature, for example exports or "
        f"https://contoso.blob.core.windows.net/exports; got {shown(text)}"
    )


def container_endpoint(text: str, storage: AzureEndpoint) -> tuple[AzureEndpoint, str]:
    """How to reach a container, and its name: one without an address is in the account of the tables.

    Raises ValueError where that account's blobs cannot be told from the address of its tables.
    """
    base, _, name = text.rstrip("/").rpartition("/")
    connection_string = storage.connection_string
    if connection_string is not None and (not base or has_blobs_at(connection_string, base)):
        return storage, name
    if not base:
        address = storage.address or ""
        if _TABLES not in address:
            raise ValueError(f"{name!r} needs an address, since that of the tables is {address!r}")
        base = address.replace(_TABLES, _BLOBS, 1).rstrip("/")
    return AzureEndpoint(address=f"{base}/{name}", client_id=storage.client_id), name
