"""Looks at stored documents now and then, and has new ones applied.

| the documents of a setting      | what follows                                                       |
|---------------------------------|--------------------------------------------------------------------|
| are as they were                | nothing: one small request or one look at the file each            |
| have changed, and are valid     | they are applied: `reloaded`                                       |
| have changed, and are invalid   | the last good ones stay: `reload_refused`, again every ten minutes |
| cannot be read                  | the last good ones stay: `reload_failed`                           |

Documents that were refused are not read again until they change.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct, field

from meter.errors import InvalidInput, InvalidSettings
from meter.ports import Clock, Dice
from meter.reloading.document import Document, DocumentSource, DocumentUnread

REMIND_SECONDS = 600.0
JITTER = 0.2  # of the pause: instances that started together must not read together

log = logging.getLogger(__name__)


class Reload(Struct, kw_only=True):
    """One setting's documents.

    `apply` takes their texts by location, says in words what has changed, and nothing where nothing has.
    It raises InvalidSettings or InvalidInput before it has changed anything.
    """

    setting: str
    sources: Sequence[DocumentSource]
    apply: Callable[[Mapping[str, str]], Awaitable[str]]
    clock: Clock
    _versions: Sequence[str | None] = ()
    _problems: str | None = None
    _said_at: float = float("-inf")

    @property
    def problems(self) -> str | None:
        """Why the newest documents are not in use; None where they are."""
        return self._problems

    async def check(self) -> None:
        """Look once; what comes of it is in the log."""
        try:
            documents = await self._changed()
        except DocumentUnread as exc:
            log.warning("reload_failed setting=%s reason=%s", self.setting, exc)
            return
        if documents is None:
            self._remind()
            return
        texts = {
            source.location: document.text
            for source, document in zip(self.sources, documents, strict=True)
        }
        try:
            changes = await self.apply(texts)
        except (InvalidSettings, InvalidInput) as exc:
            self._problems, self._said_at = "; ".join(exc.problems), float("-inf")
            self._remind()
        else:
            self._problems = None
            if changes:
                log.info("reloaded setting=%s changes=%s", self.setting, changes)
        self._versions = [document.version for document in documents]

    async def _changed(self) -> Sequence[Document] | None:
        """All documents, where one has changed. Raises DocumentUnread."""
        known = self._versions or [None] * len(self.sources)
        found = [
            await source.read(version) for source, version in zip(self.sources, known, strict=True)
        ]
        if all(each is None for each in found):
            return None
        return [
            each or await _whole(source) for source, each in zip(self.sources, found, strict=True)
        ]

    def _remind(self) -> None:
        now = self.clock.monotonic()
        if self._problems is not None and now - self._said_at >= REMIND_SECONDS:
            self._said_at = now
            log.error("reload_refused setting=%s problems=%s", self.setting, self._problems)


async def _whole(source: DocumentSource) -> Document:
    document = await source.read(None)
    if document is None:
        raise DocumentUnread(f"{source.location}: no answer to a question without a version")
    return document


class Reloading(Struct, kw_only=True):
    """All that is read again, in one task. One event loop owns it.

    A task, and not a look at each call: a call would have to wait for the reading, or use what is old.
    The task runs as long as the process does, and where Azure has stopped the process there is none to
    reload.
    """

    reloads: Sequence[Reload]
    seconds: float
    dice: Dice
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _task: asyncio.Task[None] | None = field(default=None)

    def start(self) -> None:
        """Begin, unless there is nothing to read again, or never is the time for it."""
        if self.reloads and self.seconds > 0 and self._task is None:
            self._task = asyncio.create_task(self.run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            await self.pause(self.seconds * (1 - JITTER / 2 + JITTER * self.dice.random()))
            await self.check()

    async def check(self) -> None:
        """Look at each setting once."""
        for reload in self.reloads:
            try:
                await reload.check()
            except Exception:
                # Else one defect would end all reloading without a word.
                log.exception("reload_failed_unexpectedly setting=%s", reload.setting)
