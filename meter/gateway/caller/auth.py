"""Verifies a caller's Entra ID access token and identifies the caller.

Rules: RFC 7519, RFC 8725 (JWT best practice) and Microsoft's access-token reference. The reason of a
refusal goes into the log. The caller learns it only where the token's signature has been verified and
it reveals nothing: the token has expired, is not valid yet, or is for another audience.
"""

import base64
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from msgspec import Struct, field

from meter.errors import Forbidden, Unauthenticated
from meter.gateway.caller.jwks import KeyRing, KeySet
from meter.gateway.caller.pyjwt import jwt
from meter.gateway.headers import names_of
from meter.patterns import lazy_pattern
from meter.ports import Clock, Headers
from meter.terminal import printable
from meter.usage import MAX_SUBJECT_CHARS, Principal, clean_name, is_writable

MAX_TOKEN_CHARS = 16_384
LEEWAY_SECONDS = 60
MAX_CACHED_TOKENS = 10_000
UNAUTHENTICATED_MESSAGE = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect, or has expired."
)
MISSING_MESSAGE = (
    "Unauthorized. Access token is missing: send an Entra ID access token as "
    "'Authorization: Bearer TOKEN', or in the header api-key or x-api-key."
)
SEVERAL_MESSAGE = (
    "Unauthorized. A credential's header is given twice, or holds a list: send one access token."
)
NOT_COMPACT_MESSAGE = (
    "Unauthorized. The credential is no access token (a JWT); API keys are not accepted."
)
MAX_SHOWN_CHARS = 200
# Of applications, then of people, the most readable first: not each kind of token has each claim.
DEFAULT_NAME_CLAIMS = ("app_displayname", "preferred_username", "upn", "unique_name", "email")

_FORBIDDEN_HEADERS = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "zip", "b64"})
_COMPACT = lazy_pattern(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
# How base64url writes `{` and what may follow it: no key of Azure's has the dots of a token.
_BEGINNINGS = ("ey", "ew")
_USUAL = "Bearer ey"  # what has been verified has the dots, too
_MAX_KID_CHARS = 255  # RFC 7515, section 4.1.4: any string; the bound is ours

log = logging.getLogger(__name__)


class TokenRules(Struct, frozen=True, kw_only=True):
    """The rules for access. An empty allow-list or requirement means no such rule.

    The first of `name_claims` that has a name is what people call the caller.
    """

    issuers: frozenset[str]
    audiences: frozenset[str]
    algorithms: frozenset[str] = frozenset({"RS256"})
    allowed_tenants: frozenset[str] = frozenset()
    allowed_apps: frozenset[str] = frozenset()
    required_roles: frozenset[str] = frozenset()
    required_scopes: frozenset[str] = frozenset()
    subject_claim: str = "sub"
    name_claims: tuple[str, ...] = DEFAULT_NAME_CLAIMS


class _Verified(Struct, frozen=True):
    principal: Principal
    not_before: float
    expires_at: float
    keys: KeySet


class TokenVerifier(Struct):
    """Verifies tokens by the rules. Verified tokens are cached by their SHA-256."""

    rules: TokenRules
    keys: KeyRing
    clock: Clock
    _cache: OrderedDict[bytes, _Verified] = field(default_factory=OrderedDict)

    def known(self, headers: Headers, named: Mapping[str, str], now: datetime) -> Principal | None:
        """The principal of nearly every call: its token, in the usual place, was verified before, is valid
        now, and its keys need no refresh. None for any other, whose headers `token_in` and `verify` judge.

        `named` are the first of each name: as many as `headers` where none is given twice.
        """
        value = named.get("authorization", "")
        if not value.startswith(_USUAL) or len(named) != len(headers):
            return None
        digest = sha256(value[len("Bearer ") :].strip().encode()).digest()
        known = self._valid(digest, now.timestamp())
        if known is None or not self.keys.is_fresh(known.principal.issuer, known.keys):
            return None
        self._cache.move_to_end(digest)
        return known.principal

    def _valid(self, digest: bytes, now: float) -> _Verified | None:
        known = self._cache.get(digest)
        return known if known and known.not_before <= now < known.expires_at else None

    async def verify(self, token: str) -> Principal:
        """The token's principal. Raises Unauthenticated, Forbidden or KeysUnavailable."""
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise _refuse("token_too_long_or_not_ascii")
        now, digest = self.clock.now().timestamp(), sha256(token.encode()).digest()
        if (known := self._valid(digest, now)) is not None:
            issuer, keys = known.principal.issuer, known.keys
            if self.keys.is_fresh(issuer, keys) or await self.keys.is_current(issuer, keys):
                self._cache.move_to_end(digest)
                return known.principal
        verified = await self._verify(token, now)
        self._cache[digest] = verified
        if len(self._cache) > MAX_CACHED_TOKENS:
            self._cache.popitem(last=False)
        return verified.principal

    async def _verify(self, token: str, now: float) -> _Verified:
        algorithm, kid = _read_header(token, self.rules.algorithms)
        issuer = _text(_json_part(token, 1).get("iss"))  # not verified yet
        if issuer not in self.rules.issuers:
            raise _refuse("issuer")
        found = await self.keys.key_for(issuer, kid)
        if found is None:
            raise _refuse("unknown_kid")
        key, key_set = found
        if algorithm not in key.algorithms:
            raise _refuse("algorithm_not_of_key")
        try:
            claims = jwt.decode(
                token,
                key=key.key,
                algorithms=[algorithm],
                audience=sorted(self.rules.audiences),
                issuer=issuer,
                # Times are checked below, against the injected clock.
                options={
                    "require": ["exp", "aud", "iss"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError:  # the signature is verified before
            raise _refuse("audience", self._expected_audience(token)) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:
            raise _refuse(type(exc).__name__) from None
        not_before, expires_at = _check_times(claims, now)
        if _is_id_token(claims):
            raise _refuse("id_token")
        principal = self._principal(claims, issuer)
        self._authorize(claims, principal)
        return _Verified(principal, not_before, expires_at, key_set)

    def _expected_audience(self, token: str) -> str:
        audience = printable(str(_json_part(token, 1).get("aud")), most=MAX_SHOWN_CHARS)
        expected = " or ".join(sorted(self.rules.audiences))
        return f"Unauthorized. The access token's audience is {audience}; expected {expected}."

    def _principal(self, claims: Mapping[str, object], issuer: str) -> Principal:
        subject = claims.get(self.rules.subject_claim)
        if not is_subject(subject):
            raise _refuse("subject")
        return Principal(
            subject=str(subject),
            issuer=issuer,
            tenant=_text(claims.get("tid")),
            object_id=_text(claims.get("oid")),
            client_app=_text(claims.get("azp")) or _text(claims.get("appid")),
            name=self._name(claims),
        )

    def _name(self, claims: Mapping[str, object]) -> str | None:
        names = (clean_name(claims.get(claim)) for claim in self.rules.name_claims)
        return next(filter(None, names), None)

    def _authorize(self, claims: Mapping[str, object], principal: Principal) -> None:
        rules = self.rules
        if rules.allowed_tenants and principal.tenant not in rules.allowed_tenants:
            raise _refuse("tenant")
        if rules.allowed_apps and principal.client_app not in rules.allowed_apps:
            app = printable(principal.client_app or "of this token", most=MAX_SHOWN_CHARS)
            raise Forbidden(
                f"The token is valid, but the client app {app} may not call this API.",
                reason="client_app",
            )
        roles = claims.get("roles")
        held_roles = {r for r in roles if isinstance(r, str)} if isinstance(roles, list) else set()
        held_scopes = (_text(claims.get("scp")) or "").split()
        if rules.required_roles or rules.required_scopes:
            has_role = not rules.required_roles.isdisjoint(held_roles)
            has_scope = not rules.required_scopes.isdisjoint(held_scopes)
            if not (has_role or has_scope):
                raise _lacks(rules)


def token_in(headers: Headers) -> str:
    """The caller's token: of the headers that can carry one, the first that has a token decides alone.

    Many tools can set `api-key` or `x-api-key` only, or fill several headers at once: one with the
    token, another with a key that is none. Raises Unauthenticated, also for a header that is given
    twice, or holds a list: two parsers could take two values from it.
    """
    first = ""
    names = names_of(headers)
    for carrier, read in _CARRIERS:
        if carrier not in names:
            continue
        _, value = headers[names.index(carrier)]
        if names.count(carrier) > 1 or "," in value:
            raise _refuse("several_credentials", SEVERAL_MESSAGE)
        credential = read(value)
        if credential.startswith(_BEGINNINGS) and "." in credential:
            return credential
        first = first or credential
    if not first:
        raise Unauthenticated(MISSING_MESSAGE)
    return first


def log_refusal(refusal: Unauthenticated | Forbidden, event_id: UUID) -> None:
    """Log why a token was not accepted; nothing for a call without one."""
    if isinstance(refusal, Forbidden):
        log.info("caller_forbidden event_id=%s reason=%s", event_id, refusal.reason)
    elif refusal.reason:
        log.info("token_refused event_id=%s reason=%s", event_id, refusal.reason)


def is_subject(value: object) -> bool:
    """Whether a value can be billed: 1-255 characters that UTF-8 can encode."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT_CHARS and is_writable(value)


def _bearer(value: str) -> str:
    scheme, _, credential = value.strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


_CARRIERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("authorization", _bearer),
    ("api-key", str.strip),
    ("x-api-key", str.strip),
)


def _read_header(token: str, algorithms: frozenset[str]) -> tuple[str, str]:
    if not _COMPACT.fullmatch(token):
        raise _refuse("not_compact", NOT_COMPACT_MESSAGE)
    for part in token.split("."):
        if not _is_canonical(part):
            raise _refuse("base64url")
    header = _json_part(token, 0)
    if _FORBIDDEN_HEADERS & header.keys():
        raise _refuse("header_parameter")
    kind = header.get("typ")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in {"jwt", "at+jwt"}):
        raise _refuse("typ")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise _refuse("algorithm")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_CHARS:
        raise _refuse("kid")
    return algorithm, kid


def _is_canonical(part: str) -> bool:
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == part


def _json_part(token: str, index: int) -> Mapping[str, object]:
    part = token.split(".")[index]
    try:
        document = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise _refuse("json") from None
    if not isinstance(document, dict):
        raise _refuse("json")
    return document


def _check_times(claims: Mapping[str, object], now: float) -> tuple[float, float]:
    """The span of time in which the token is valid, leeway included."""
    expires = _moment(claims, "exp")
    not_before = max(_moment(claims, "nbf", default=0), _moment(claims, "iat", default=0))
    span = not_before - LEEWAY_SECONDS, expires + LEEWAY_SECONDS
    if now >= span[1]:
        ago = round(now - expires)
        raise _refuse("expired", f"Unauthorized. The access token expired {ago} seconds ago.")
    if now < span[0]:
        wait = round(not_before - now)
        early = f"Unauthorized. The access token is not valid for another {wait} seconds."
        raise _refuse("not_yet_valid", early)
    return span


def _moment(claims: Mapping[str, object], name: str, *, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(name)
    try:
        datetime.fromtimestamp(value, tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise _refuse(name) from None
    return float(value)


def _text(value: object) -> str | None:
    return str(value) if is_subject(value) else None


def _is_id_token(claims: Mapping[str, object]) -> bool:
    """Whether the token tells a client who signed in, and gives no access (OpenID Connect Core 2).

    It has a nonce or a hash of what was issued with it. Entra's access tokens name the client app;
    ID tokens carry roles, too.
    """
    is_of_sign_in = not claims.keys().isdisjoint({"nonce", "at_hash", "c_hash"})
    return is_of_sign_in and claims.keys().isdisjoint({"azp", "appid", "scp"})


def _refuse(reason: str, message: str = UNAUTHENTICATED_MESSAGE) -> Unauthenticated:
    return Unauthenticated(message, reason=reason)


def _lacks(rules: TokenRules) -> Forbidden:
    """The token has none of the roles or scopes of which it needs one."""
    kinds = (("role", rules.required_roles), ("scope", rules.required_scopes))
    needed = [f"the {kind} {' or '.join(sorted(names))}" for kind, names in kinds if names]
    message = (
        f"The token is valid, but lacks the permission to call this API: {' or '.join(needed)}."
    )
    return Forbidden(message, reason="roles_or_scopes")
