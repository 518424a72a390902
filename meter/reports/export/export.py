"""Brings an export up to date: makes what is due, puts what differs, and writes the manifest last.

| killed, or failing                        | leaves                                                        |
|-------------------------------------------|---------------------------------------------------------------|
| while files are made                      | the folder as it was                                          |
| between two files                         | whole files; some are newer than the manifest says            |
| after the files, before the manifest      | the same                                                      |
| after the manifest                        | a file of another format that the manifest does not list      |

The next run makes all of it good: it compares with the manifest, which says what was finished.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from typing import BinaryIO

from msgspec import structs

from meter.errors import AmbiguousPrice, ExportRefused, InvalidInput, LedgerDamaged
from meter.ports import Clock
from meter.reports.export.layout import MANIFEST, ROOT, Encoding, Kind, encoding_of, path_of
from meter.reports.export.making import Made, Maker
from meter.reports.export.manifest import (
    Entry,
    Failure,
    Manifest,
    complete_to,
    manifest_bytes,
    read_manifest,
)
from meter.reports.export.plan import MonthPlan, due_months, last_finished_day, month_asked
from meter.reports.export.source import Source
from meter.reports.export.target import ExportFolder, ExportTarget
from meter.reports.export.writers import Writers
from meter.usage import format_time
from meter.window import Period, Window

# What is wrong with one month alone: the others are still written.
_OF_A_MONTH = (AmbiguousPrice, InvalidInput, LedgerDamaged)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did: the files that it wrote, how many were as they should be, what failed."""

    manifest: Manifest
    written: tuple[Entry, ...]
    unchanged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export. `encoding` chooses one of `writers`; `new_file` gives an empty file for each."""

    source: Source
    target: ExportTarget
    clock: Clock
    retention: timedelta
    writers: Writers
    new_file: Callable[[], BinaryIO]
    encoding: Encoding | None = None

    async def run(self, wanted: Window | None = None) -> Outcome:
        """Write what is due, or one day or month.

        Raises ExportHeld, ExportUnavailable, ExportRefused, StorageUnavailable.
        """
        async with self.target.hold() as folder:
            stored = await folder.read(MANIFEST)
            before = None if stored is None else read_manifest(stored.data)
            run = _Run(
                export=self,
                folder=folder,
                before=before,
                version=None if stored is None else stored.version,
                encoding=self._encoding(before),
            )
            self._check_currency(before)
            return await run.all(wanted)

    def _encoding(self, before: Manifest | None) -> Encoding:
        """That which is asked for, else the folder's own: programs on one folder may have others."""
        chosen = self.encoding or (before.encoding if before else next(iter(self.writers.tables)))
        if chosen not in self.writers.tables:
            raise ExportRefused(
                f"the tables in {self.target.name} are {chosen}, which needs the extra parquet "
                '(pip install "aoai-meter[parquet]"); --format csv.gz writes open months anew'
            )
        return chosen

    def _check_currency(self, before: Manifest | None) -> None:
        """Amounts do not vanish from files, nor change their currency, because a setting was lost."""
        own = self.source.currency
        if before is not None and before.currency not in {None, own}:
            raise ExportRefused(
                f"the amounts in {self.target.name} are in {before.currency}, "
                f"{'these prices in ' + own if own else 'and no prices are given'}: "
                "give the same prices, or use another folder"
            )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run on a folder that it holds; `entries` are the manifest to be."""

    export: Export
    folder: ExportFolder
    before: Manifest | None
    version: str | None
    encoding: Encoding
    entries: dict[str, Entry] = field(default_factory=dict)
    written: list[Entry] = field(default_factory=list)
    unchanged: int = 0
    failed: list[Failure] = field(default_factory=list)
    maker: Maker = field(init=False)
    there: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        export = self.export
        self.maker = Maker(
            source=export.source,
            new_file=export.new_file,
            encoding=self.encoding,
            writers=export.writers,
            now=export.clock.now(),
        )

    async def all(self, wanted: Window | None) -> Outcome:
        """Every month in its order; the manifest after each that has changed, and at the end."""
        self.there = set(await self.folder.paths(f"{ROOT}/"))
        listed = [] if self.before is None else self.before.files
        gone = [entry.path for entry in listed if entry.path not in self.there]
        if gone:
            log.warning("export_files_gone files=%d first=%s", len(gone), gone[0])
        self.entries = {entry.path: entry for entry in listed if entry.path in self.there}
        only = wanted if wanted is not None and wanted.period is Period.DAY else None
        for plan in self._plans(wanted):
            try:
                await self._month(plan, only)
            except _OF_A_MONTH as exc:
                log.error("export_month_failed month=%s reason=%s", plan.month.name, exc)
                self.failed.append(Failure(month=plan.month.name, reason=str(exc)))
        manifest = await self._write_manifest()
        await self._delete_other_formats()
        return Outcome(manifest=manifest, written=tuple(self.written), unchanged=self.unchanged)

    def _plans(self, wanted: Window | None) -> list[MonthPlan]:
        closed, now = self.export.source.closed, self.maker.now
        if wanted is None:
            return due_months(
                now=now, retention=self.export.retention, closed=closed, manifest=self._known()
            )
        plan = month_asked(wanted, now=now, closed=closed, manifest=self._known())
        return [] if plan is None else [plan]

    def _known(self) -> Manifest | None:
        """The manifest as far as its files are there."""
        if self.before is None:
            return None
        return structs.replace(self.before, files=list(self.entries.values()))

    async def _month(self, plan: MonthPlan, only: Window | None) -> None:
        """Make all files of a month, or one day's; then put those that differ, and say so."""
        with ExitStack() as files:
            made = []
            async for each in self._made(plan, only):
                files.callback(each.content.close)
                made.append(each)
            changes = [each.entry for each in made if await self._put(each)]
        if changes:
            await self._write_manifest()

    async def _made(self, plan: MonthPlan, only: Window | None) -> AsyncIterator[Made]:
        if only is not None:
            async for each in self.maker.days(plan, only):
                yield each
            return
        month = await self.maker.month(plan)
        if month.entry.rows or plan.is_final or plan.is_asked or self._is_known(plan.month):
            yield month
            if not (plan.is_settled and self._is_unchanged(month.entry, plan)):
                async for each in self.maker.others(plan):
                    yield each
        else:  # nothing was ever counted in it
            month.content.close()

    def _is_known(self, month: Window) -> bool:
        """Whether it runs, or has files."""
        is_running = month.start <= self.maker.now < month.end
        return is_running or any(entry.month == month for entry in self.entries.values())

    def _is_unchanged(self, entry: Entry, plan: MonthPlan) -> bool:
        """Whether a month has the sums that it had, and every file that it should have."""
        known = self.entries.get(entry.path)
        days = (path_of(Kind.DAY, day, self.encoding) for day in plan.days())
        return (
            self.before is not None
            and self.before.sources == list(self.export.source.files)
            and known is not None
            and known.sha256 == entry.sha256
            and all(path in self.entries for path in days)
        )

    async def _put(self, made: Made) -> bool:
        """Put a file unless the same one is there; whether the manifest changes."""
        entry = made.entry
        known = self.entries.get(entry.path)
        if known is None or known.sha256 != entry.sha256:
            await self.folder.put(entry.path, made.content, replaces=None)
            self.written.append(entry)
            for other in _in_other_formats(entry.path):
                self.entries.pop(other, None)
        else:
            self.unchanged += 1
            entry = structs.replace(entry, written_at=known.written_at)
        self.entries[entry.path] = entry
        return entry != known

    async def _write_manifest(self) -> Manifest:
        files = [self.entries[path] for path in sorted(self.entries)]
        manifest = Manifest(
            as_of=format_time(self.maker.now),
            complete_to=complete_to(files),
            encoding=self.encoding,
            currency=self.export.source.currency,
            sources=list(self.export.source.files),
            caught_up=self._caught_up(),
            failed=self.failed,
            files=files,
        )
        content = BytesIO(manifest_bytes(manifest))
        self.version = await self.folder.put(MANIFEST, content, replaces=self.version)
        return manifest

    def _caught_up(self) -> list[str]:
        """The days that an earlier run should have written."""
        if self.before is None:
            return []
        known = {entry.first for entry in self.before.files if entry.kind is Kind.DAY}
        known.add(last_finished_day(self.maker.now).name)
        days = {entry.first for entry in self.written if entry.kind is Kind.DAY}
        return sorted(days - known)

    async def _delete_other_formats(self) -> None:
        """Delete what a change of format left beside the listed files."""
        for path in sorted(self.there - self.entries.keys()):
            if any(other in self.entries for other in _in_other_formats(path)):
                await self.folder.delete(path)


def _in_other_formats(path: str) -> Iterator[str]:
    """The paths of a table in the other formats."""
    own = encoding_of(path)
    if own is not None:
        stem = path.removesuffix(own)
        yield from (f"{stem}{each}" for each in Encoding if each is not own)
