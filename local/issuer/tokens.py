"""Mints tokens shaped like Entra ID's v2 access tokens, including deliberately odd ones.

A `claims` entry overrides or adds one claim. Its value is JSON if it parses as JSON (`scp="a b"` and
`exp=1` differ in type), else text; `null` removes the claim. Nothing is validated: tests need tokens
that a verifier has to refuse.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from jwt import PyJWS

from local.issuer.keys import ALGORITHM, KeyRing

TENANT_ID = "5d1f7c1e-3c52-4b8e-9f0a-0c1d2e3f4a5b"
DEFAULT_APP_ID = "a7b8c9d0-1e2f-4a3b-8c4d-5e6f7a8b9c0d"
_OBJECT_NAMESPACE = uuid.UUID("0b3f6a52-7f7d-4b53-9d0c-6b1f2c8e4a10")


def mint(
    ring: KeyRing,
    *,
    issuer: str,
    audience: str,
    subject: str,
    app_id: str | None = None,
    roles: Sequence[str] = (),
    expires_in_seconds: int = 3600,
    claims: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> str:
    """A compact signed token; a negative `expires_in_seconds` makes an expired one."""
    issued_at = now or datetime.now(UTC)
    content: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "oid": object_id(subject),
        "tid": TENANT_ID,
        "azp": app_id or DEFAULT_APP_ID,
        "ver": "2.0",
        "iat": int(issued_at.timestamp()),
        "nbf": int(issued_at.timestamp()),
        "exp": int((issued_at + timedelta(seconds=expires_in_seconds)).timestamp()),
    }
    if roles:
        content["roles"] = list(roles)
    for name, text in (claims or {}).items():
        content[name] = _claim_value(text)
    present = {name: value for name, value in content.items() if value is not None}
    return _sign(ring, present)


def object_id(subject: str) -> str:
    """The directory object id of a subject, the same on every call."""
    return str(uuid.uuid5(_OBJECT_NAMESPACE, subject))


def _claim_value(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(name: str) -> object:
    # Python reads NaN and Infinity, but they are not JSON and would make the token unreadable.
    raise ValueError(f"a claim must be JSON, got {name}")


def _sign(ring: KeyRing, content: Mapping[str, object]) -> str:
    key = ring.signing_key()
    payload = json.dumps(content, separators=(",", ":")).encode()
    # Not jwt.encode: it refuses claims of a wrong type, which tests mint on purpose.
    return PyJWS().encode(
        payload, key.private_key, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": "JWT"}
    )
