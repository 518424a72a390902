"""Authentication: shared access signatures are checked, Entra ID tokens are accepted unverified."""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus

_SAS_PREFIX: Final = "SharedAccessSignature "
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class TokenCheck:
    """The one shared access policy of the namespace."""

    def __init__(self, key_name: str, key: str, now_ms: Callable[[], int]) -> None:
        self._key_name = key_name
        self._key = key.encode()
        self._now_ms = now_ms

    def find_fault(self, token: str) -> str | None:
        """Return the reason for refusing the token; None if it is valid.

        A JWT is not verified: its issuer is not on this machine.
        """
        if token.startswith(_SAS_PREFIX):
            return self._find_signature_fault(token.removeprefix(_SAS_PREFIX))
        return None if _JWT.fullmatch(token) else "the token is neither a signature nor a JWT"

    def accepts_plain(self, response: bytes) -> bool:
        """Whether a SASL PLAIN response (RFC 4616) names the policy and its key."""
        _, _, credentials = response.partition(b"\0")
        name, _, password = credentials.partition(b"\0")
        same_name = hmac.compare_digest(name, self._key_name.encode())
        return hmac.compare_digest(password, self._key) and same_name

    def _find_signature_fault(self, fields: str) -> str | None:
        parts = dict(part.partition("=")[::2] for part in fields.split("&"))
        expires = unquote_plus(parts.get("se", ""))
        if not expires.isdecimal() or int(expires) * 1000 <= self._now_ms():
            return "the signature has expired"
        if unquote_plus(parts.get("skn", "")) != self._key_name:
            return "no policy has this key name"
        # The signature covers the address as escaped in the token; clients escape differently.
        signed = f"{parts.get('sr', '')}\n{expires}".encode()
        expected = b64encode(hmac.digest(self._key, signed, hashlib.sha256))
        given = unquote_plus(parts.get("sig", "")).encode()
        return None if hmac.compare_digest(expected, given) else "the signature is wrong"
