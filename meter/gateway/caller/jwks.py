"""Caches the issuers' signing keys; a stale key set is kept for a day when refreshes fail.

Rules (RFC 7517, RFC 8725): only asymmetric signature keys; RSA of 2048 bits or more; a kid that
appears twice, or on a symmetric key, is refused. One fetch of a key set runs at a time, and at most
one per interval, however many unknown key ids arrive.

| age of a key set      | what a call does                                             |
|-----------------------|--------------------------------------------------------------|
| up to an hour         | uses it                                                      |
| up to two hours       | uses it, and starts a refresh                                |
| beyond two hours      | waits for the refresh; uses the old keys if it fails         |
| beyond a day          | waits for the refresh; fails with it (KeysUnavailable)       |

A fetch that succeeds replaces the key set, also by an empty one: the issuer has withdrawn its keys.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from meter.errors import KeysUnavailable
from meter.gateway.caller.pyjwt import jwt
from meter.ports import Clock, KeySetSource

MIN_RSA_BITS = 2048
MAX_KEYS = 100
ROUTINE_REFRESH_SECONDS = 3600.0
OVERDUE_SECONDS = 2 * ROUTINE_REFRESH_SECONDS
MAX_STALE_SECONDS = 86_400.0

type SigningKey = RSAPublicKey | EllipticCurvePublicKey

_RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the algorithms it may be used with."""

    key: SigningKey = field(repr=False)
    algorithms: frozenset[str]


type KeySet = Mapping[str, VerificationKey]


def parse_key_set(documents: Sequence[Mapping[str, object]]) -> KeySet:
    """The usable keys of a JWKS by key id; unusable ones are skipped."""
    kids = Counter(str(document.get("kid")) for document in documents)
    keys: dict[str, VerificationKey] = {}
    for document in documents[:MAX_KEYS]:
        kid = document.get("kid")
        if isinstance(kid, str) and kids[kid] == 1 and (key := _verification_key(document)):
            keys[kid] = key
    return keys


class KeyRing(Struct):
    """The key sets of all trusted issuers. One event loop owns it."""

    source: KeySetSource
    clock: Clock
    min_refresh_seconds: float
    _issuers: dict[str, "_IssuerKeys"] = {}

    async def key_for(self, issuer: str, kid: str) -> tuple[VerificationKey, KeySet] | None:
        """The issuer's key with that id and its key set; None when there is none.

        Raises KeysUnavailable when the issuer's keys were never loaded, are withdrawn or too old.
        """
        entry = self._entry(issuer)
        await self._refresh_if_due(issuer, entry)
        if kid not in entry.keys:
            await self._fetch_if_allowed(issuer, entry)
        if not entry.keys or entry.age_seconds(self.clock.monotonic()) > MAX_STALE_SECONDS:
            raise KeysUnavailable(f"no current keys of issuer {issuer!r} could be loaded")
        key = entry.keys.get(kid)
        return None if key is None else (key, entry.keys)

    async def load(self, issuer: str) -> bool:
        """Load the issuer's keys unless they are cached; false when there are no current ones."""
        entry = self._entry(issuer)
        if not entry.keys:
            await self._fetch_if_allowed(issuer, entry)
        return await self.is_current(issuer, entry.keys)

    def is_fresh(self, issuer: str, keys: KeySet) -> bool:
        """Whether `is_current` would say so without a refresh, as for nearly every call."""
        entry = self._issuers.get(issuer)
        if entry is None or entry.keys is not keys or not keys:
            return False
        return self.clock.monotonic() - entry.loaded_at <= ROUTINE_REFRESH_SECONDS

    async def is_current(self, issuer: str, keys: KeySet) -> bool:
        """Whether that key set is still the issuer's newest, so that tokens it verified are still valid."""
        entry = self._entry(issuer)
        await self._refresh_if_due(issuer, entry)
        is_fresh = entry.age_seconds(self.clock.monotonic()) <= MAX_STALE_SECONDS
        return bool(keys) and entry.keys is keys and is_fresh

    def _entry(self, issuer: str) -> "_IssuerKeys":
        entry = self._issuers.get(issuer)
        if entry is None:
            entry = self._issuers[issuer] = _IssuerKeys()
        return entry

    async def _refresh_if_due(self, issuer: str, entry: "_IssuerKeys") -> None:
        """Refresh an old key set, so that a removed key is noticed; wait only for an overdue one."""
        if not entry.keys:
            return
        now = self.clock.monotonic()
        age = entry.age_seconds(now)
        if age > OVERDUE_SECONDS:
            await self._fetch_if_allowed(issuer, entry)
        elif age > ROUTINE_REFRESH_SECONDS and self._may_fetch(entry, now):
            self._start_fetch(issuer, entry)

    async def _fetch_if_allowed(self, issuer: str, entry: "_IssuerKeys") -> None:
        """Wait for the fetch under way, or for a new one where the interval allows it."""
        if entry.fetching is not None or self._may_fetch(entry, self.clock.monotonic()):
            await asyncio.shield(entry.fetching or self._start_fetch(issuer, entry))

    def _may_fetch(self, entry: "_IssuerKeys", now: float) -> bool:
        return entry.fetching is None and now - entry.tried_at >= self.min_refresh_seconds

    def _start_fetch(self, issuer: str, entry: "_IssuerKeys") -> "asyncio.Task[None]":
        entry.tried_at = self.clock.monotonic()
        entry.fetching = asyncio.create_task(self._fetch(issuer, entry))
        return entry.fetching

    async def _fetch(self, issuer: str, entry: "_IssuerKeys") -> None:
        try:
            keys = parse_key_set(await self.source.fetch(issuer))
        except KeysUnavailable as exc:
            log.warning("key_set_refresh_failed issuer=%s reason=%s", issuer, exc)
        else:
            if not keys:
                log.error("key_set_empty issuer=%s", issuer)
            if keys != entry.keys:  # tokens verified by the same keys stay valid
                entry.keys = keys
            entry.loaded_at = self.clock.monotonic()
        finally:
            entry.fetching = None


class _IssuerKeys(Struct):
    """One issuer's key set; empty until it is loaded, and when the issuer has withdrawn its keys."""

    keys: KeySet = {}
    loaded_at: float = 0.0
    tried_at: float = float("-inf")
    fetching: "asyncio.Task[None] | None" = None

    def age_seconds(self, now: float) -> float:
        """Seconds since the last fetch that succeeded."""
        return now - self.loaded_at


def _verification_key(document: Mapping[str, object]) -> VerificationKey | None:
    operations, kind = document.get("key_ops"), document.get("kty")
    if document.get("use", "sig") != "sig" or kind not in ("RSA", "EC"):
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    # PyJWK needs one algorithm to parse the key; any of the family does.
    curve = _EC_ALGORITHMS.get(str(document.get("crv")), "ES256")
    try:
        key = jwt.PyJWK.from_dict(dict(document), "RS256" if kind == "RSA" else curve).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        algorithms = _RSA_ALGORITHMS
    elif isinstance(key, EllipticCurvePublicKey):
        algorithms = frozenset({_EC_ALGORITHMS.get(str(document.get("crv")), "")})
    else:
        return None
    stated = document.get("alg")
    return VerificationKey(key, algorithms if stated is None else algorithms & {str(stated)})
