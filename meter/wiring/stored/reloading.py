"""Builds what reads settings again that stand in files or blobs, and applies them to a running front door."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Self

from msgspec import Struct

from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.identity import ConfiguredCredentials
from meter.config.backends.read import load_backends
from meter.config.environment import document_storage, load_limits
from meter.config.limits import Limits
from meter.config.prices import load_price_settings
from meter.config.stored.locations import stored_settings
from meter.gateway.backend import Backend
from meter.gateway.front_door import FrontDoor
from meter.reloading.reload import Reload, Reloading
from meter.reports.pricing.configured import ConfiguredBook
from meter.wiring.entrance import Surroundings, join_limits
from meter.wiring.gateway import Gateway
from meter.wiring.stored.documents import ClosableSource, FirstDocuments, source_of

type _Environment = Callable[[], Mapping[str, str]]
type _Apply = Callable[[Mapping[str, str]], Awaitable[str]]


class StoredSettings:
    """The documents of one app: read before its front door is built, and again while that runs."""

    def __init__(self, environment: _Environment) -> None:
        self._environment = environment
        self._first = FirstDocuments(clock=SystemClock())
        self._sources: list[ClosableSource] = []
        self._reloading: Reloading | None = None

    @property
    def surroundings(self) -> Surroundings:
        """What the front door is built from beside its settings."""
        return Surroundings(environment=self._environment, documents=self._first.documents)

    async def fetch(self) -> None:
        """Read the blobs that the settings name, unless they have been read."""
        await self._first.fetch(self._environment())

    def start(self, gateway: Gateway) -> None:
        """Read all of them again, now and then, unless never is the time for it."""
        seconds = gateway.settings.reload_seconds
        if seconds:
            reloads = self._reloads(gateway)
            self._reloading = Reloading(reloads=reloads, seconds=seconds, dice=system_dice())
            self._reloading.start()

    async def check(self) -> None:
        """Look at all of them now."""
        if self._reloading is not None:
            await self._reloading.check()

    async def close(self) -> None:
        """End reading, and close the connections."""
        if self._reloading is not None:
            await self._reloading.close()
        for source in self._sources:
            await source.close()

    def _reloads(self, gateway: Gateway) -> list[Reload]:
        environment, clock = self._environment(), SystemClock()
        storage, applying = document_storage(environment), Applying.to(gateway, self._environment)
        apply: Mapping[str, _Apply] = {
            "METER_BACKENDS": applying.backends,
            "METER_LIMITS": applying.change_limits,
            "METER_PRICES": applying.prices,
        }
        reloads = []
        for setting, locations in stored_settings(environment).items():
            sources = [source_of(each, storage) for each in locations]
            self._sources += sources
            reloads.append(
                Reload(setting=setting, sources=sources, apply=apply[setting], clock=clock)
            )
        return reloads


class Applying(Struct, kw_only=True):
    """Applies new documents to the parts of a front door."""

    environment: _Environment
    front_door: FrontDoor
    credentials: ConfiguredCredentials
    book: ConfiguredBook
    limits: Limits
    prices_digest: str = ""

    @classmethod
    def to(cls, gateway: Gateway, environment: _Environment) -> Self:
        """To a front door that has just been built."""
        return cls(
            environment=environment,
            front_door=gateway.front_door,
            credentials=gateway.credentials,
            book=gateway.book,
            limits=gateway.settings.limits,
        )

    async def backends(self, texts: Mapping[str, str]) -> str:
        """Have later calls use these backends. Raises InvalidSettings."""
        found, auth = await asyncio.to_thread(load_backends, self.environment(), texts)
        pool = self.front_door.instance.forwarder.pool
        before, has_new_auth = tuple(pool.backends), self.credentials.replace(auth)
        if found != before:
            pool.replace(found)
        changes = _changes(before, found)
        return ", ".join([*changes, *(["credentials"] if has_new_auth else [])])

    async def change_limits(self, texts: Mapping[str, str]) -> str:
        """Have later calls kept within these limits. Raises InvalidSettings."""
        limits = await asyncio.to_thread(load_limits, self.environment(), texts)
        if limits == self.limits:
            return ""
        door, self.limits = self.front_door, limits
        door.admission.limit(limits.admission)
        door.instance.forwarder.limits = limits.forwarding
        door.relays.times = limits.times
        door.relays.drains.limit(limits.drains)
        door.joins.limit(join_limits(limits.admission))
        door.instance.background.follow_ups.limit(limits.forwarding, limits.drains.share_percent)
        door.first_keepalive_seconds = limits.first_keepalive_seconds
        return "limits"

    async def prices(self, texts: Mapping[str, str]) -> str:
        """Have later reports use this book. Raises InvalidInput."""
        from meter.wiring.books import configured_book

        settings = load_price_settings(self.environment())
        book = await asyncio.to_thread(configured_book, settings, texts)
        self.book.use(book)
        before, self.prices_digest = self.prices_digest, _digest(texts)
        return "" if before in {"", self.prices_digest} else "prices"


def _digest(texts: Mapping[str, str]) -> str:
    whole = sha256()
    for text in texts.values():
        whole.update(text.encode())
    return whole.hexdigest()


def _changes(before: Sequence[Backend], after: Sequence[Backend]) -> list[str]:
    """In words: which backends are new, gone or changed."""
    old, new = ({each.name: each for each in backends} for backends in (before, after))
    found = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    }
    return [f"{word} {' '.join(names)}" for word, names in found.items() if names]
