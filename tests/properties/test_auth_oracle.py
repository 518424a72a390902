"""A second implementation as oracle: joserfc and the verifier give the same verdict on any token.

joserfc checks the signature, the algorithm and the registered claims. The verifier's own rules
beyond that (header parameters, `typ`, encoding) are left out here; they have tests of their own.
"""

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry

from meter.errors import Unauthenticated
from meter.gateway.caller.auth import LEEWAY_SECONDS
from tests.fakes.gateway import FakeClock
from tests.support.gateway import AUDIENCE, ISSUER, NOW, claims, rsa_key, token, verifier

_ABSENT = None
# Around each edge: the moment itself, a second before and after, and the ends of the leeway.
_EDGES = [
    NOW + offset + shift for offset in (0, LEEWAY_SECONDS, -LEEWAY_SECONDS) for shift in (-1, 0, 1)
]
_TIMES = st.sampled_from([_ABSENT, *_EDGES, NOW - 10**6, NOW + 10**6])
_ISSUERS = st.sampled_from([_ABSENT, ISSUER, f"{ISSUER}/", ISSUER.upper(), "", "https://other"])
_AUDIENCES = st.sampled_from(
    [_ABSENT, AUDIENCE, f"{AUDIENCE}/", "", [], [AUDIENCE], ["other", AUDIENCE], ["other"]]
)
_ALGORITHMS = st.sampled_from(["RS256", "RS384", "HS256", "none", "ES256", "rs256"])
_PUBLIC_KEY = RSAKey.import_key(rsa_key().public_key())


def _says_joserfc(text: str) -> bool:
    registry = JWTClaimsRegistry(
        now=NOW,
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        registry.validate(jwt.decode(text, _PUBLIC_KEY, algorithms=["RS256"]).claims)
    except (JoseError, ValueError):
        return False
    return True


def _says_the_verifier(text: str) -> bool:
    try:
        asyncio.run(verifier(FakeClock()).verify(text))
    except Unauthenticated:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(
    payload=st.fixed_dictionaries(
        {"exp": _TIMES, "nbf": _TIMES, "iat": _TIMES, "iss": _ISSUERS, "aud": _AUDIENCES}
    ),
    algorithm=_ALGORITHMS,
    is_signed_by_us=st.booleans(),
)
@example(
    payload={"exp": NOW + 60, "nbf": NOW, "iat": NOW, "iss": ISSUER, "aud": AUDIENCE},
    algorithm="RS256",
    is_signed_by_us=True,
)
def test_both_give_the_same_verdict(
    payload: dict[str, object], algorithm: str, is_signed_by_us: bool
) -> None:
    """Issuer, audience, times, algorithm and signature are judged alike, edges included."""
    key = rsa_key() if is_signed_by_us else rsa_key(2048, "stranger")
    text = token({"alg": algorithm}, claims(**payload), key=key)

    assert _says_the_verifier(text) == _says_joserfc(text)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_bit_of_a_token_can_be_flipped(at: int, bit: int) -> None:
    """A valid token with any one bit flipped is refused."""
    good = bytearray(token().encode())
    good[at % len(good)] ^= 1 << bit
    text = good.decode("latin-1")

    assert not _says_the_verifier(text)
