"""The one way in which what is hashed or proven is written as JSON.

UTF-8, members sorted by name, no spaces, whole numbers only: RFC 8785 for whole numbers below 2^53,
and the same digits beyond.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def canonical(document: Mapping[str, object]) -> bytes:
    """The document's bytes. Raises ValueError for what JSON or UTF-8 cannot hold."""
    return _JSON.encode(document).encode()


def canonical_counts(counts: Mapping[str, int]) -> bytes:
    """The same for whole numbers by name: made for every node of a tree."""
    if not counts:
        return b"{}"
    template, pick = _template(tuple(counts))
    return (template % pick(counts)).encode()


@lru_cache(maxsize=1_024)
def _template(names: tuple[str, ...]) -> tuple[str, Callable[[Mapping[str, int]], object]]:
    """The JSON with a place for each number, and what picks these in order."""
    members = (_JSON.encode(name).replace("%", "%%") for name in sorted(names))
    template = ",".join(f"{name}:%d" for name in members)
    return f"{{{template}}}", itemgetter(*sorted(names))


def digest(kind: bytes, *parts: bytes) -> bytes:
    """The SHA-256 of these parts. `kind`, a byte, keeps one kind of them from passing for another."""
    return sha256(kind + b"".join(parts)).digest()
