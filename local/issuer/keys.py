"""The issuer's signing keys, kept in one private file that several processes may share.

The newest key signs. Older keys stay published until they are dropped, so that tokens signed before
a rotation still verify. The stack's issuer and the command that mints tokens are two processes on
one file: it is reread when it has changed, replaced as a whole, and changed under a lock.

`keys.json`: `{"keys": [{"kid": str, "private_key_pem": str}, ...]}`, oldest first.
"""

import base64
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ALGORITHM = "RS256"
_KEY_BITS = 2048
_PUBLIC_EXPONENT = 65537

type _FileVersion = tuple[int, int, int]  # inode, time of change, size


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One RSA key and the name (`kid`) under which it is published."""

    kid: str
    private_key: rsa.RSAPrivateKey

    def public_jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517, RFC 7518 section 6.3.1)."""
        numbers = self.private_key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "alg": ALGORITHM,
            "n": _base64url(numbers.n),
            "e": _base64url(numbers.e),
        }


class KeyRing:
    """The keys of `STATE/issuer/keys.json`; the file is created with one key on first use."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "issuer" / "keys.json"
        # One attribute, so that concurrent readers see a version together with its keys.
        self._cached: tuple[_FileVersion | None, tuple[SigningKey, ...]] = (None, ())

    def keys(self) -> tuple[SigningKey, ...]:
        """All published keys, oldest first, as now in the file; never empty."""
        if _version_of(self._path) is None:
            with self._lock():
                # Another process may have created it while this one waited for the lock.
                if _version_of(self._path) is None:
                    self._write((_new_key(),))
        version = _version_of(self._path)
        known_version, keys = self._cached
        if version != known_version:
            keys = _read(self._path)
            self._cached = (version, keys)
        return keys

    def signing_key(self) -> SigningKey:
        """The signing key: the newest."""
        return self.keys()[-1]

    def rotate(self) -> SigningKey:
        """Adds a key that signs from now on; the older ones stay published."""
        self.keys()
        added = _new_key()
        with self._lock():
            self._write((*_read(self._path), added))
        return added

    def drop(self, kid: str) -> None:
        """Stops publishing a key; raises ValueError for an unknown one and for the signing key."""
        self.keys()
        with self._lock():
            keys = _read(self._path)
            old_kids = [key.kid for key in keys[:-1]]
            if kid not in old_kids:
                raise ValueError(f"only an old key can be dropped, one of {old_kids}, got {kid!r}")
            self._write([key for key in keys if key.kid != kid])

    def _write(self, keys: Sequence[SigningKey]) -> None:
        text = json.dumps({"keys": [_to_entry(key) for key in keys]}, indent=2)
        staged = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        # 0600 from its first moment: the file holds private keys.
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self._path)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_name("keys.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # which also releases the lock


def _new_key() -> SigningKey:
    private_key = rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=_KEY_BITS)
    return SigningKey(kid=uuid.uuid4().hex, private_key=private_key)


def _version_of(path: Path) -> _FileVersion | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    # The inode distinguishes two replacements within one clock tick.
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _read(path: Path) -> tuple[SigningKey, ...]:
    entries = json.loads(path.read_text(encoding="utf-8"))["keys"]
    return tuple(_from_entry(entry["kid"], entry["private_key_pem"]) for entry in entries)


def _from_entry(kid: str, pem: str) -> SigningKey:
    private_key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise ValueError(f"key {kid!r} must be an RSA key, got {type(private_key).__name__}")
    return SigningKey(kid=kid, private_key=private_key)


def _to_entry(key: SigningKey) -> dict[str, str]:
    pem = key.private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {"kid": key.kid, "private_key_pem": pem.decode()}


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
