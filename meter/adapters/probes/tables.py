"""Creates a table of its own, writes, reads and deletes a row, and drops the table: nothing stays.

A fixed table of the app would show the row to its readers, and reading proves no right to write.
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
from meter.errors import AccessDenied, NotSignedIn, StorageUnavailable
from meter.ports import Clock, Conflict, Dice, Row

PREFIX = "MeterDoctor"
CLEAN_SECONDS = 5.0
_PARTITION, _KEY = "doctor", "row"


async def try_tables(
    settings: StorageSettings, *, clock: Clock, dice: Dice, offsets: Offsets
) -> Outcome:
    """Whether a table may be created, written, read and dropped there."""
    store = build_store(settings)
    table, step = f"{PREFIX}{dice.randbytes(8).hex()}", "create a table and a row"
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
        step = "list tables"
        await _learn(store, clock, offsets)
    except StorageUnavailable as exc:
        return _outcome(exc, step)
    finally:
        if step not in {"create a table and a row", "list tables"}:
            await _clean(store, table)
        await store.close()
    return Accepted("create, write, read, delete: allowed")


async def _learn(store: TablesRowStore, clock: Clock, offsets: Offsets) -> None:
    sent_at = clock.now().timestamp()
    served_at: datetime = await store.service_time()
    offsets.learn("tables", served_at.timestamp(), sent_at, clock.now().timestamp())


async def _clean(store: TablesRowStore, table: str) -> None:
    with suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(CLEAN_SECONDS):
            await store.drop(table)


def _outcome(exc: StorageUnavailable, step: str) -> Outcome:
    match exc:
        case NotSignedIn():
            return NoToken()
        case AccessDenied(code=code):
            return Refused(code, getattr(exc.__cause__, "status_code", None) or 403, step)
    status = getattr(exc.__cause__, "status_code", None)
    if status is not None or exc.__cause__ is None:
        code = getattr(exc.__cause__, "error_code", None) or str(exc).rpartition(": ")[2]
        return Refused(str(getattr(code, "value", code)), status, step)
    return NoAnswer(fault_of(exc))
