"""What the timers of the function app do, but for the outbox's."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from meter.adapters.clock import SystemClock
from meter.config.exports import load_export_settings
from meter.errors import ExportHeld, HubUnavailable, MeterError, StorageUnavailable

if TYPE_CHECKING:
    from meter.adapters.tables import TablesRowStore
    from meter.reports.export.export import Outcome
    from meter.upkeep.hub_backlog import HubBacklog

type _Run = Coroutine[Any, Any, "Outcome"]

log = logging.getLogger(__name__)


async def sweep_views(store: "TablesRowStore") -> int:
    """One run of the sweep timer: how many view rows it repaired."""
    from meter.upkeep.sweep import Sweep

    return await Sweep(store=store, tables=store, clock=SystemClock()).run()


async def log_hub_backlog(backlog: "HubBacklog") -> None:
    """Log what the hub holds and the ledger has not counted, or why that is unknown."""
    try:
        found = await backlog.measure()
    except (HubUnavailable, StorageUnavailable) as exc:
        log.warning("hub_backlog_unknown reason=%s", exc)
        return
    log.info(
        "hub_backlog messages=%d oldest_seconds=%.0f taken=%d counted=%d",
        found.messages,
        found.oldest_seconds,
        found.taken,
        found.counted,
    )


async def drop_old_ledgers(store: "TablesRowStore", retention: timedelta) -> str | None:
    """One run of the retention timer: the table it dropped, if any."""
    from meter.upkeep.retention import Retention

    return await Retention(tables=store, clock=SystemClock(), retention=retention).run()


class NightlyExport:
    """The export timer; a run ends when it is closed. `export` is one run, from the environment."""

    def __init__(self, export: Callable[[Mapping[str, str]], _Run] | None = None) -> None:
        self._export = export or _export
        self._runs: set[asyncio.Task[Outcome]] = set()

    async def run(self, environment: Mapping[str, str]) -> None:
        """Write what is due, if METER_EXPORT_CONTAINER says where, and log what became of it.

        What could not be written is due the next night. Raises MeterError, which fails the invocation.
        """
        settings = load_export_settings(environment)
        if settings.container is None and not settings.problems:
            return
        clock = SystemClock()
        started = clock.monotonic()
        task = asyncio.create_task(_run_apart(lambda: self._export(environment)))
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        try:
            done = await task
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
            clock.monotonic() - started,
        )

    async def close(self) -> None:
        """Break off a run; the next one makes good what it left."""
        for task in list(self._runs):
            task.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)


async def _export(environment: Mapping[str, str]) -> "Outcome":
    # Reports, and the blobs' SDK, are no part of a cold start.
    from meter.wiring.exports import run_configured_export

    return await run_configured_export(environment)


async def _run_apart[T](work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in a thread with an event loop of its own, since calls and events may share this process.

    Cancelling the wait cancels the work.
    """
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    is_cancelled = threading.Event()

    def in_thread() -> T:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(work())
            started.append((loop, task))
            if is_cancelled.is_set():
                task.cancel()
            return loop.run_until_complete(task)

    running = asyncio.ensure_future(asyncio.to_thread(in_thread))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        is_cancelled.set()
        for loop, task in started:
            with suppress(RuntimeError):  # it has ended just now
                loop.call_soon_threadsafe(task.cancel)
        await asyncio.gather(running, return_exceptions=True)
        raise
