"""Exports, for the command and for the nightly timer: where they go, and running them."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from meter.adapters.blobs.connect import build_container
from meter.adapters.blobs.folder import LocalFolder
from meter.adapters.clients import build_store
from meter.adapters.clock import SystemClock
from meter.config.environment import load_storage_settings
from meter.config.exports import load_export_settings
from meter.config.values import StorageSettings
from meter.ports import Clock
from meter.reports.export.export import Export, Outcome
from meter.reports.export.layout import Encoding
from meter.reports.export.target import ExportTarget
from meter.reports.export.writers import available_writers
from meter.reports.usage import Watch
from meter.window import Window
from meter.wiring.sources import Money, money_of, source_on

IN_MEMORY_BYTES = 1_048_576


@asynccontextmanager
async def open_place(place: Path | str, storage: StorageSettings) -> AsyncIterator[ExportTarget]:
    """A folder, or a container by its name or address. Raises InvalidInput."""
    if isinstance(place, Path):
        yield LocalFolder(place)
        return
    container = build_container(place, storage)
    try:
        yield container
    finally:
        await container.close()


async def run_export(
    place: Path | str,
    money: Money,
    *,
    environment: Mapping[str, str] | None = None,
    wanted: Window | None = None,
    encoding: Encoding | None = None,
    clock: Clock | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Bring an export up to date, from the tables that the environment names.

    Raises InvalidInput, InvalidSettings, and as `Export.run` does.
    """
    storage = load_storage_settings(os.environ if environment is None else environment)
    store = build_store(storage)
    try:
        async with open_place(place, storage) as target:
            export = Export(
                source=await source_on(store, money, watch),
                target=target,
                clock=clock or SystemClock(),
                retention=storage.retention,
                writers=available_writers(),
                new_file=_new_file,
                encoding=encoding,
            )
            return await export.run(wanted)
    finally:
        await store.close()


async def run_configured_export(environment: Mapping[str, str]) -> Outcome:
    """Bring the export up to date that the settings name, from what they name.

    Raises InvalidInput, InvalidSettings, and as `Export.run` does.
    """
    money, settings = await money_of(environment), load_export_settings(environment)
    assert settings.container is not None, "the caller checks that there is one"
    return await run_export(settings.container, money, environment=environment)


def _new_file() -> BinaryIO:
    return cast(BinaryIO, SpooledTemporaryFile(IN_MEMORY_BYTES))  # its user closes it
