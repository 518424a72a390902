"""Tries the rights to tables, and leaves nothing there.

An app that counts creates tables. So one is created, a row is written, read and deleted in it, and it is
dropped: in a fixed table of the app readers would see the row, and reading proves no right to write.

An app that only serves calls reads, and writes to the table Outbox alone, which is created if it is not
there, as its first use does. There a row is deleted that does not exist: the service looks for it only
after it has found the right to delete.
"""

import asyncio
from contextlib import suppress
from datetime import datetime

from meter.adapters.clients import build_store
from meter.adapters.probes.network import fault_of
from meter.adapters.tables import TablesRowStore
from meter.config.values import StorageSettings
from meter.doctor.answers import Accepted, NoAnswer, NoToken, Outcome, Refused
from meter.doctor.basics import Offsets
from meter.errors import NotSignedIn, StorageUnavailable
from meter.ports import Clock, Conflict, Dice, Row
from meter.publishing.outbox import OUTBOX_TABLE

PREFIX = "MeterDoctor"
CLEAN_SECONDS = 5.0
_PARTITION, _KEY = "doctor", "row"
_ETAG = "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\""  # of no row


async def try_tables(
    settings: StorageSettings, *, clock: Clock, dice: Dice, offsets: Offsets
) -> Outcome:
    """Whether a table may be created, written, read and dropped there."""
    store = build_store(settings)
    table, step = f"{PREFIX}{dice.randbytes(8).hex()}", "create a table and a row"
    is_dropped = False
    try:
        row = Row(key=_KEY, columns={"Made": "doctor"})
        written = await store.write(table, _PARTITION, insert=[row])
        if isinstance(written, Conflict):
            return Refused("Conflict", step=step)
        step = "read the row"
        found = await store.read(table, _PARTITION, [_KEY])
        step = "delete the row"
        await store.write(table, _PARTITION, delete=list(found.values()))
        step = "drop the table"
        await store.drop(table)
        is_dropped, step = True, "list tables"
        await _learn(store, clock, offsets)
    except StorageUnavailable as exc:
        return outcome_of(exc, step)
    finally:
        if not is_dropped:  # it may be there even where its creation had no answer
            await _clean(store, table)
        await store.close()
    return Accepted("create, write, read, delete: allowed")


async def try_outbox(settings: StorageSettings, *, dice: Dice) -> Outcome:
    """Whether rows of the table Outbox may be written."""
    store = build_store(settings)
    absent = Row(key=dice.randbytes(8).hex(), columns={}, etag=_ETAG)
    try:
        await store.write(OUTBOX_TABLE, _PARTITION, delete=[absent])
    except StorageUnavailable as exc:
        return outcome_of(exc, "write")
    finally:
        await store.close()
    return Accepted("write: allowed")


async def try_to_read(settings: StorageSettings, *, clock: Clock, offsets: Offsets) -> Outcome:
    """Whether tables may be listed, which any role to read them grants."""
    store = build_store(settings)
    try:
        await _learn(store, clock, offsets)
    except StorageUnavailable as exc:
        return outcome_of(exc, "list tables")
    finally:
        await store.close()
    return Accepted("read: allowed")


async def _learn(store: TablesRowStore, clock: Clock, offsets: Offsets) -> None:
    sent_at = clock.now().timestamp()
    served_at: datetime = await store.service_time()
    offsets.learn("tables", served_at.timestamp(), sent_at, clock.now().timestamp())


async def _clean(store: TablesRowStore, table: str) -> None:
    with suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(CLEAN_SECONDS):
            await store.drop(table)


def outcome_of(exc: StorageUnavailable, step: str) -> Outcome:
    """What became of a step that failed."""
    if isinstance(exc, NotSignedIn):
        return NoToken()
    if exc.status is not None or exc.__cause__ is None:
        return Refused(exc.code, exc.status, step)
    return NoAnswer(fault_of(exc))
