"""Memory: bounded in bytes, the least recently used goes first, and large enough for a company."""

import sys
from collections.abc import Iterable, Mapping
from copy import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from meter.ledger.aggregator import Aggregator
from meter.ledger.memory import MOST_KNOWN_BYTES, Memory, RowMemory
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW, PRINCIPAL, usage_event
from tests.support.ledger import aggregator_on


def by_length(key: str, value: str) -> int:
    return len(key) + len(value)


def by_lengths(values: Mapping[str, str]) -> int:
    return sum(by_length(*each) for each in values.items())


def test_the_least_recently_used_is_forgotten_first() -> None:
    """Looking at a value is use."""
    memory = Memory(9, by_length)
    for key in "abc":
        memory.put(key, "xx")
    memory.get("a")
    memory.put("d", "xx")

    assert [memory.get(key) for key in "abcd"] == ["xx", None, "xx", "xx"]
    assert (len(memory), memory.bytes) == (3, 9)


def test_a_large_value_takes_the_room_of_several() -> None:
    """Bytes are counted, not values."""
    memory = Memory(9, by_length)
    for key in "abc":
        memory.put(key, "xx")
    memory.put("d", "xxxxx")

    assert [memory.get(key) for key in "abcd"] == [None, None, "xx", "xxxxx"]


def test_a_value_larger_than_all_room_is_not_remembered() -> None:
    """Nor anything where there is no room."""
    memory, none = Memory(3, by_length), Memory(0, by_length)
    memory.put("a", "xxxx")
    none.put("a", "")

    assert (memory.get("a"), none.get("a")) == (None, None)
    assert (memory.bytes, none.bytes) == (0, 0)


def test_replaced_and_dropped_values_free_their_room() -> None:
    """The count never drifts."""
    memory = Memory(100, by_length)
    memory.put("a", "xxxx")
    memory.put("a", "x")
    memory.put("b", "xx")
    memory.drop_all(["b", "c"])

    assert (len(memory), memory.bytes) == (1, 2)


def test_of_the_partition_used_longest_ago_the_oldest_row_is_forgotten_first() -> None:
    """Looking at a partition is use, whichever of its rows is looked for."""
    memory = RowMemory(9, by_lengths)
    memory.put("t", "p", {"a": "xx", "b": "xx"})
    memory.put("t", "q", {"a": "xx"})
    memory.of("t", "p")
    memory.put("t", "r", {"a": "xx"})
    memory.put("t", "p", {"a": "yy", "c": "xx"})

    kept = {partition: dict(memory.of("t", partition)) for partition in "pqr"}
    assert kept == {"p": {"b": "xx", "a": "yy", "c": "xx"}, "q": {}, "r": {}}
    assert (len(memory), memory.bytes) == (3, 9)


def test_rows_are_forgotten_until_the_rest_fits() -> None:
    """Also those of the partition that grew; a bound that is below a row keeps none."""
    memory, none = RowMemory(30, by_lengths), RowMemory(0, by_lengths)
    memory.put("t", "p", {f"{number:02}": "x" for number in range(40)})
    none.put("t", "p", {"a": ""})

    kept = list(memory.of("t", "p"))
    assert kept == [f"{number:02}" for number in range(40 - len(kept), 40)]
    assert 8 <= len(kept) <= 10
    assert memory.bytes == 3 * len(kept)
    assert not none.of("t", "p")


@given(
    st.lists(
        st.tuples(
            st.sampled_from("pqr"),
            st.lists(st.tuples(st.sampled_from("abcdefgh"), st.text("x", max_size=5)), max_size=6),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(0, 60),
)
def test_rows_are_counted_as_they_are(
    steps: list[tuple[str, list[tuple[str, str]], bool]], most: int
) -> None:
    """Whatever is put, replaced and dropped: the size is that of what is there, and within the bound."""
    memory = RowMemory(most, by_lengths)
    for partition, rows, drops in steps:
        if drops:
            memory.drop("t", partition, [key for key, _ in rows])
        else:
            memory.put("t", partition, dict(rows))
        there = [row for each in "pqr" for row in memory.of("t", each).items()]
        assert memory.bytes == sum(by_length(*row) for row in there) <= most
        assert len(memory) == len(there)


SUBJECTS, CALLS_A_SUBJECT, WINDOWS = 40, 6, 3


async def counted(store: MemoryRowStore) -> Aggregator:
    """An aggregator that has counted calls of each subject to 3 deployments on 2 backends, twice."""
    aggregator = aggregator_on(store)
    calls = [
        usage_event(
            number,
            principal=replace(
                PRINCIPAL,
                subject=f"{number % SUBJECTS:043}",
                client_app=f"{number % SUBJECTS:036}",
            ),
            deployment=f"deployment-{number // SUBJECTS % 3}",
            backend=f"backend-{number // SUBJECTS % CALLS_A_SUBJECT // 3}",
            time=NOW + timedelta(seconds=number / 100),
        )
        for number in range(2 * SUBJECTS * CALLS_A_SUBJECT)
    ]
    half = len(calls) // 2
    for some in (calls[:half], calls[half:]):
        await aggregator.count(some)
    return aggregator


def size_of_all(roots: Iterable[object]) -> int:
    """The bytes of all objects that these refer to, each once."""
    seen, left, size = set[int](), list(roots), 0
    while left:
        each = left.pop()
        if id(each) in seen or each is None or isinstance(each, type):
            continue
        seen.add(id(each))
        size += sys.getsizeof(each)
        if isinstance(each, dict):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, tuple):
            left += [*each, getattr(each, "__dict__", None)]
        elif isinstance(each, Struct):
            left += [getattr(each, name) for name in each.__struct_fields__]
    return size


async def test_all_sums_of_ten_thousand_subjects_fit() -> None:
    """Each of them calls three deployments on two backends: 60,000 rows of three sums each."""
    aggregator = await counted(MemoryRowStore())
    sums, views = aggregator.committer._sums._known, aggregator.showing._views._rows._known
    needed = [
        memory.bytes / len(memory) * count for memory, count in ((sums, 60_000), (views, 180_000))
    ]

    assert len(views) == len(sums) * WINDOWS == SUBJECTS * CALLS_A_SUBJECT * WINDOWS
    assert sums._most_bytes > needed[0]
    assert views._most_bytes > needed[1]
    assert sums._most_bytes + views._most_bytes == MOST_KNOWN_BYTES
    assert aggregator.showing.most_waiting > 180_000


async def test_the_estimate_of_what_is_remembered_is_near_its_size() -> None:
    """Above it: view rows share the names of their sums, and sums of one hour alone all their counts."""
    aggregator = await counted(MemoryRowStore())
    memories = aggregator.committer._sums._known, aggregator.showing._views._rows._known
    estimated = sum(memory.bytes for memory in memories)
    measured = size_of_all([memory._values for memory in memories])

    assert 0.6 * estimated < measured < estimated
