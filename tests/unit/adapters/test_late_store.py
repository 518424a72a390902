"""A store that connects when it is first used."""

import asyncio
from typing import cast

from meter.adapters.late_store import LateRowStore
from meter.adapters.tables import TablesRowStore
from meter.ports import Row, Written
from tests.fakes.rows import MemoryRowStore

ROW = Row(key="k", columns={"A": 1})


class Store(MemoryRowStore):
    """Rows in memory, which can be pinged and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    async def ping(self) -> None:
        self.done.append("pinged")

    async def close(self) -> None:
        self.done.append("closed")


class Building:
    """Counts what was built."""

    def __init__(self) -> None:
        self.built: list[Store] = []

    def build(self) -> TablesRowStore:
        self.built.append(Store())
        return cast(TablesRowStore, self.built[-1])


async def test_a_store_that_is_not_used_is_not_built() -> None:
    """Closing it neither."""
    building = Building()
    await LateRowStore(building.build).close()

    assert building.built == []


async def test_uses_at_once_share_one_store() -> None:
    """The first of them builds it, and it is closed with the late one."""
    building = Building()
    late = LateRowStore(building.build)
    await asyncio.gather(*(late.ping() for _ in range(5)))
    await late.close()

    [store] = building.built
    assert store.done == ["pinged"] * 5 + ["closed"]


async def test_rows_are_those_of_the_store() -> None:
    """Read, written and scanned as there."""
    late = LateRowStore(Building().build)

    assert isinstance(await late.write("T", "p", insert=[ROW]), Written)
    read = await late.read("T", "p", ["k", "x"])
    assert {key: row.columns for key, row in read.items()} == {"k": ROW.columns}
    assert await late.keys_between("T", "p", "a", "z") == {"k"}
    rows = late.scan("T", first_partition="p", last_partition="p")
    assert [(partition, row.key) async for partition, row in rows] == [("p", "k")]
