"""The one way in which what is hashed or proven is written as JSON.

UTF-8, members sorted by name, no spaces, whole numbers only: RFC 8785 for whole numbers below 2^53,
and the same digits beyond.
"""

import json
from collections.abc import Mapping
from hashlib import sha256

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def canonical(document: Mapping[str, object]) -> bytes:
    """The document's bytes. Raises ValueError for what JSON or UTF-8 cannot hold."""
    return _JSON.encode(document).encode()


def digest(kind: bytes, *parts: bytes) -> bytes:
    """The SHA-256 of these parts. `kind`, a byte, keeps one kind of them from passing for another."""
    return sha256(kind + b"".join(parts)).digest()
