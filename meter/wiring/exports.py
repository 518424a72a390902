"""Exports, for the command and for the nightly timer: where they go, and running them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from meter.adapters.blobs.folder import LocalFolder
from meter.adapters.clients import build_container, build_store
from meter.adapters.clock import SystemClock
from meter.config.environment import load_storage_settings
from meter.config.exports import load_export_settings
from meter.config.values import StorageSettings
from meter.errors import ExportHeld, MeterError
from meter.ports import Clock
from meter.reports.export.export import Export, Outcome
from meter.reports.export.layout import Encoding
from meter.reports.export.target import ExportTarget
from meter.reports.export.writers import available_writers
from meter.reports.usage import Watch
from meter.window import Window
from meter.wiring.sources import Money, configured_money, source_on

IN_MEMORY_BYTES = 1_048_576

log = logging.getLogger(__name__)


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
    storage: StorageSettings,
    money: Money,
    *,
    wanted: Window | None = None,
    encoding: Encoding | None = None,
    clock: Clock | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Bring an export up to date. Raises as `Export.run` does."""
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


async def export_nightly(environment: Mapping[str, str]) -> None:
    """The nightly export, if METER_EXPORT_CONTAINER names where it goes; logs what became of it.

    What it could not write is due the next night. Raises MeterError, which fails the invocation.
    """
    settings = load_export_settings(environment)
    if settings.container is None and not settings.problems:
        return
    started = SystemClock().monotonic()
    try:
        done = await _run_apart(lambda: _export(environment, settings.container or ""))
    except ExportHeld as exc:
        log.warning("export_skipped reason=%s", exc)
        return
    except MeterError as exc:
        log.error("export_failed reason=%s", exc)
        raise
    log.info(
        "export_finished files=%d unchanged=%d months_failed=%d complete_to=%s seconds=%.0f",
        len(done.written),
        done.unchanged,
        len(done.manifest.failed),
        done.manifest.complete_to,
        SystemClock().monotonic() - started,
    )


async def _export(environment: Mapping[str, str], container: str) -> Outcome:
    money = configured_money(environment)
    return await run_export(container, load_storage_settings(environment), money)


async def _run_apart[T](work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in a thread with an event loop of its own, since calls and events may share this process.

    Cancelling the wait cancels the work.
    """
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    def in_thread() -> T:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(work())
            started.append((loop, task))
            return loop.run_until_complete(task)

    running = asyncio.ensure_future(asyncio.to_thread(in_thread))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        for loop, task in started:
            loop.call_soon_threadsafe(task.cancel)
        await asyncio.gather(running, return_exceptions=True)
        raise


def _new_file() -> BinaryIO:
    return cast(BinaryIO, SpooledTemporaryFile(IN_MEMORY_BYTES))  # its user closes it
