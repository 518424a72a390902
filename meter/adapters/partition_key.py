"""The hub partition of a partition key: Jenkins lookup3, as in the SDK's buffered mode.

The service does not document its hash; if it changed, keys would only spread less evenly. Like the
SDK, this hashes code points, not UTF-8 bytes.
Source: Bob Jenkins, lookup3.c (public domain), `hashlittle2`.
"""

from typing import Final

_MASK: Final = 0xFFFFFFFF
_BLOCK: Final = 12
_MIX_ROTATIONS: Final = (4, 6, 8, 16, 19, 4)


def choose_partition(key: str, partition_count: int) -> int:
    """Return the index of the partition that holds every event with this key."""
    return _signed_hash(key) % partition_count


def keys_by_partition(partition_count: int) -> tuple[str, ...]:
    """A short key for each partition, by its index."""
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < partition_count:
        key = f"p{number}"
        keys.setdefault(choose_partition(key, partition_count), key)
        number += 1
    return tuple(keys[index] for index in range(partition_count))


def _signed_hash(key: str) -> int:
    if not key:
        return 0
    first, second = _lookup3([ord(character) for character in key])
    folded = (first ^ second) & 0xFFFF
    return folded - 0x10000 if folded & 0x8000 else folded


def _lookup3(units: list[int]) -> tuple[int, int]:
    a = b = c = (0xDEADBEEF + len(units)) & _MASK
    start = 0
    while len(units) - start > _BLOCK:
        a, b, c = _mix(*_add(a, b, c, units[start : start + _BLOCK]))
        start += _BLOCK
    a, b, c = _add(a, b, c, units[start:])
    _, b, c = _finish(a, b, c)
    return c, b


def _add(a: int, b: int, c: int, units: list[int]) -> tuple[int, int, int]:
    a += sum(unit << 8 * index for index, unit in enumerate(units[0:4]))
    b += sum(unit << 8 * index for index, unit in enumerate(units[4:8]))
    c += sum(unit << 8 * index for index, unit in enumerate(units[8:12]))
    return a & _MASK, b & _MASK, c & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    # Each step is the same on rotated names; after six steps every name is back in place.
    for rotation in _MIX_ROTATIONS:
        a = ((a - c) & _MASK) ^ _rotate(c, rotation)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _finish(a: int, b: int, c: int) -> tuple[int, int, int]:
    c = ((c ^ b) - _rotate(b, 14)) & _MASK
    a = ((a ^ c) - _rotate(c, 11)) & _MASK
    b = ((b ^ a) - _rotate(a, 25)) & _MASK
    c = ((c ^ b) - _rotate(b, 16)) & _MASK
    a = ((a ^ c) - _rotate(c, 4)) & _MASK
    b = ((b ^ a) - _rotate(a, 14)) & _MASK
    c = ((c ^ b) - _rotate(b, 24)) & _MASK
    return a, b, c


def _rotate(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _MASK
