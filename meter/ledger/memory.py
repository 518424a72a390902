"""What a process remembers of rows, the least recently used forgotten first, bounded in bytes."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import islice

# For all that an aggregator remembers. A subject who calls three deployments on two backends has 6 rows of
# sums, of 2.5 KB, and 18 view rows, of 0.5 KB: enough for 13,000 such subjects of a process.
# With more, rows are forgotten while they are in use, and most transactions are sent twice.
MOST_KNOWN_BYTES = 320 * 1024 * 1024


class Memory[K, V]:
    """Values by key, of at most `most_bytes` by the estimate of `size_of`."""

    def __init__(self, most_bytes: int, size_of: Callable[[K, V], int]) -> None:
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._values: OrderedDict[K, V] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    @property
    def bytes(self) -> int:
        """The estimated size of all that is remembered."""
        return self._bytes

    def get(self, key: K) -> V | None:
        """The value; None if it is not remembered."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember the value, in place of an earlier one of its key."""
        before = self._values.pop(key, None)
        if before is not None:
            self._bytes -= self._size_of(key, before)
        if self._most_bytes <= 0:
            return
        self._values[key] = value
        self._bytes += self._size_of(key, value)
        while self._bytes > self._most_bytes:
            oldest, dropped = self._values.popitem(last=False)
            self._bytes -= self._size_of(oldest, dropped)

    def drop(self, key: K) -> None:
        """Forget the value, if it is remembered."""
        value = self._values.pop(key, None)
        if value is not None:
            self._bytes -= self._size_of(key, value)

    def drop_all(self, keys: Iterable[K]) -> None:
        """Forget these values."""
        for key in keys:
            self.drop(key)


class RowMemory[V]:
    """Values by partition and row key, of at most `most_bytes` by the estimate of `size_of`.

    Forgotten first is, of the partition that was used longest ago, what was put there longest ago. The
    rows of a transaction are looked up, put and sized together, without a loop in Python.
    """

    def __init__(self, most_bytes: int, size_of: Callable[[Mapping[str, V]], int]) -> None:
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._values: OrderedDict[tuple[str, str], dict[str, V]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._values.values()))

    @property
    def bytes(self) -> int:
        """The estimated size of all that is remembered."""
        return self._bytes

    def of(self, table: str, partition: str) -> Mapping[str, V]:
        """The values of a partition, which must not be kept."""
        found = self._values.get((table, partition))
        if found is None:
            return {}
        self._values.move_to_end((table, partition))
        return found

    def put(self, table: str, partition: str, values: Mapping[str, V]) -> None:
        """Remember the values, in place of earlier ones of their keys."""
        if self._most_bytes <= 0 or not values:
            return
        of_partition = self._values.setdefault((table, partition), {})
        self._values.move_to_end((table, partition))
        self._take(of_partition, of_partition.keys() & values.keys())  # to be the latest again
        of_partition |= values
        self._bytes += self._size_of(values)
        while self._bytes > self._most_bytes:
            place, oldest = next(iter(self._values.items()))
            # Some at a time: the first of a dict is found past all that was taken from it.
            self.drop(*place, list(islice(oldest, max(1, len(oldest) // 16))))

    def drop(self, table: str, partition: str, keys: Iterable[str]) -> None:
        """Forget the values, as far as they are remembered."""
        of_partition = self._values.get((table, partition))
        if of_partition is None:
            return
        self._take(of_partition, of_partition.keys() & set(keys))
        if not of_partition:
            del self._values[table, partition]

    def _take(self, of_partition: dict[str, V], keys: Set[str]) -> None:
        self._bytes -= self._size_of({key: of_partition.pop(key) for key in keys})
