"""Memory: bounded in bytes, the least recently used goes first."""

from meter.ledger.memory import Memory


def by_length(key: str, value: str) -> int:
    return len(key) + len(value)


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
