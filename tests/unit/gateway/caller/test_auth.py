"""Only a token that keeps every rule of RFC 8725 and our own says who is calling."""

import base64
import json
from copy import replace

import jwt
import pytest

from meter.errors import Forbidden, Unauthenticated
from meter.gateway.caller.auth import (
    MISSING_MESSAGE,
    NOT_COMPACT_MESSAGE,
    UNAUTHENTICATED_MESSAGE,
    TokenRules,
    token_in,
)
from meter.usage import Principal
from tests.fakes.gateway import FakeClock, FakeKeySource
from tests.support.gateway import (
    AUDIENCE,
    ISSUER,
    NOW,
    RULES,
    b64,
    claims,
    ec_jwk,
    ec_token,
    jwk,
    rsa_key,
    token,
    verifier,
)


def rules(**changes: frozenset[str] | str) -> TokenRules:
    usual: dict[str, frozenset[str]] = {
        "issuers": RULES.issuers,
        "audiences": RULES.audiences,
    }
    return TokenRules(**(usual | changes))  # type: ignore[arg-type]  # names of fields


async def refuse(
    text: str,
    *,
    by: TokenRules = RULES,
    source: FakeKeySource | None = None,
    message: str = UNAUTHENTICATED_MESSAGE,
) -> str:
    """The logged reason of a refusal with that message."""
    with pytest.raises(Unauthenticated) as refused:
        await verifier(FakeClock(), source, rules=by).verify(text)
    assert refused.value.message == message
    return refused.value.reason


async def test_a_token_that_keeps_the_rules_names_its_principal() -> None:
    """The subject, and what else is recorded of it."""
    principal = await verifier(FakeClock()).verify(token())

    assert principal == Principal(
        subject="alice",
        issuer=ISSUER,
        tenant="tenant-1",
        object_id="object-1",
        client_app="app-1",
    )


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "RS384"},
        {"alg": "ES256"},
        {"alg": "rs256"},
        {"alg": None},
        {"alg": 7},
        {"kid": None},
        {"kid": ""},
        {"kid": 7},
        {"kid": ["key-1"]},
        {"kid": "other"},
        {"kid": "../../key-1"},
        {"kid": "key-1\n"},
        {"kid": "k" * 256},
        {"typ": "dpop+jwt"},
        {"typ": "JWS"},
        {"typ": 7},
        {"typ": ""},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["AA"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"zip": "DEF"},
        {"b64": False},
        {"b64": True},
    ],
    ids=json.dumps,
)
async def test_a_header_that_breaks_a_rule_is_refused(header: dict[str, object]) -> None:
    """The signature is right in each case; the header is not."""
    await refuse(token(header))


@pytest.mark.parametrize(
    "kid",
    ["bilbo.baggins@hobbiton.example", "key 1/2:3", "\u9375", "k" * 255, "#!{}\x00\n"],
)
async def test_a_key_id_may_be_any_text(kid: str) -> None:
    """RFC 7515, section 4.1.4: its structure is unspecified; RFC 7520 uses an e-mail address."""
    source = FakeKeySource({ISSUER: [jwk(kid)]})

    principal = await verifier(FakeClock(), source).verify(token({"kid": kid}))

    assert principal.subject == "alice"


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "AT+JWT"])
async def test_the_types_of_access_tokens_are_accepted(kind: str | None) -> None:
    """`typ` absent, `JWT` or `at+jwt` (RFC 9068), in any case."""
    assert (await verifier(FakeClock()).verify(token({"typ": kind}))).subject == "alice"


async def test_a_token_without_a_signature_is_refused() -> None:
    """`alg: none` as its makers write it."""
    unsigned = f"{b64(b'{"alg":"none","kid":"key-1"}')}.{b64(json.dumps(claims()).encode())}."

    await refuse(unsigned, message=NOT_COMPACT_MESSAGE)


async def test_a_public_key_is_never_a_shared_secret() -> None:
    """HS256 over the published key (CVE-2015-9235's kind) is refused, even where it is allowed."""
    forged = jwt.encode(claims(), "public key as a secret" * 2, "HS256", headers={"kid": "key-1"})

    await refuse(forged, by=rules(algorithms=frozenset({"RS256", "HS256"})))


async def test_an_algorithm_is_bound_to_the_kind_of_key() -> None:
    """An EC key verifies no RSA token and the other way round, though both are allowed."""
    both = rules(algorithms=frozenset({"RS256", "ES256"}))

    await refuse(token({"alg": "ES256"}), by=both)
    await refuse(token({"kid": "ec-1"}), by=both, source=FakeKeySource({ISSUER: [ec_jwk()]}))


async def test_other_algorithms_are_opt_in() -> None:
    """ES256 is refused by default and accepted where it is configured."""
    source = FakeKeySource({ISSUER: [ec_jwk()]})
    await refuse(ec_token(), source=source)

    opted_in = verifier(FakeClock(), source, rules=rules(algorithms=frozenset({"ES256"})))

    assert (await opted_in.verify(ec_token())).subject == "alice"


async def test_a_key_serves_the_algorithm_it_states_alone() -> None:
    """A key published for RS512 verifies no RS256 token."""
    await refuse(token(), source=FakeKeySource({ISSUER: [jwk(alg="RS512")]}))


async def test_another_keys_signature_is_refused() -> None:
    """The kid says which key; the signature must be that key's."""
    await refuse(token(key=rsa_key(2048, "forger")))


def _noncanonical(text: str) -> str:
    """The same bytes in another spelling: the last character's unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text) % 4
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


async def test_only_canonical_base64url_is_accepted() -> None:
    """The signature's spelling cannot be changed: one token, one hash, one cache entry."""
    head, payload, signature = token().split(".")
    assert base64.urlsafe_b64decode(_noncanonical(signature) + "==") == base64.urlsafe_b64decode(
        signature + "=="
    )

    await refuse(f"{head}.{payload}.{_noncanonical(signature)}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text + ".x",
        lambda text: text.rpartition(".")[0],
        lambda text: text.replace(".", "..", 1),
        lambda text: text.replace(".", "+.", 1),
        lambda text: text.replace("e", "\u0435", 1),
        lambda text: text + "\ud800",
        lambda text: "A" * 16_385,
        lambda text: "[]" + text,
        lambda text: ".".join([b64(b"[]"), *text.split(".")[1:]]),
        lambda text: ".".join([b64(b"\xff{"), *text.split(".")[1:]]),
        lambda text: ".".join([b64(b"[" * 9_000), *text.split(".")[1:]]),
        lambda text: ".".join([text.split(".")[0], b64(b"7"), text.split(".")[2]]),
    ],
)
async def test_what_is_no_compact_token_is_refused(spoil: object) -> None:
    """Three parts of base64url that hold JSON objects, and at most 16 KiB."""
    assert callable(spoil)

    with pytest.raises(Unauthenticated) as refused:
        await verifier(FakeClock()).verify(spoil(token()))
    assert refused.value.message in {NOT_COMPACT_MESSAGE, UNAUTHENTICATED_MESSAGE}


@pytest.mark.parametrize(
    "key", ["3f2a9c0d4b5e6f708192a3b4c5d6e7f8", "sk-proj-x_y", "a.b", "a b.c.d"]
)
async def test_a_key_is_told_apart_from_a_token(key: str) -> None:
    """The caller has configured the wrong kind of credential."""
    assert await refuse(key, message=NOT_COMPACT_MESSAGE) == "not_compact"


@pytest.mark.parametrize(
    "headers",
    [(), (("authorization", ""),), (("authorization", "Basic eDp5"),), (("api-key", ""),)],
)
def test_a_call_without_a_token_learns_where_it_goes(headers: tuple[tuple[str, str], ...]) -> None:
    """It is not logged: there is nothing to say about it."""
    with pytest.raises(Unauthenticated) as refused:
        token_in(headers)

    assert (refused.value.message, refused.value.reason) == (MISSING_MESSAGE, "")


GOOD, STALE = token(), token(payload=claims(exp=NOW - 3600))
JUNK = "00112233445566778899aabbccddeeff"


@pytest.mark.parametrize(
    ("headers", "chosen"),
    [
        ((("authorization", f"Bearer {GOOD}"),), GOOD),
        ((("authorization", f"bearer {GOOD}"),), GOOD),
        ((("authorization", f"BEARER   {GOOD}"),), GOOD),
        ((("api-key", GOOD),), GOOD),
        ((("x-api-key", f" {GOOD} "),), GOOD),
        ((("api-key", GOOD), ("authorization", f"Bearer {GOOD}")), GOOD),
        ((("x-api-key", GOOD), ("authorization", f"Bearer {GOOD}")), GOOD),
        ((("api-key", JUNK), ("authorization", f"Bearer {GOOD}")), GOOD),
        ((("api-key", GOOD), ("authorization", f"Bearer {JUNK}")), GOOD),
        ((("x-api-key", GOOD), ("api-key", JUNK), ("authorization", "Basic YTpi")), GOOD),
        ((("api-key", GOOD), ("authorization", f"Bearer {STALE}")), STALE),
        ((("x-api-key", GOOD), ("api-key", STALE)), STALE),
        ((("api-key", STALE), ("x-api-key", GOOD), ("authorization", GOOD)), STALE),
        ((("api-key", JUNK), ("x-api-key", "other")), JUNK),
        # Behind the one that decides, nothing counts.
        ((("authorization", f"Bearer {GOOD}"), ("api-key", "a, b")), GOOD),
        ((("api-key", GOOD), ("x-api-key", STALE), ("x-api-key", STALE)), GOOD),
    ],
)
def test_the_first_header_with_a_token_decides_alone(
    headers: tuple[tuple[str, str], ...], chosen: str
) -> None:
    """`Authorization`, `api-key`, `x-api-key`: whatever stands in the others, a better token too."""
    assert token_in(headers) == chosen


async def test_a_stale_token_is_refused_before_its_rights() -> None:
    """401, upon which clients fetch a new token; 403 would end their session."""
    rules = replace(RULES, required_roles=frozenset({"Caller"}))
    with pytest.raises(Unauthenticated):
        await verifier(FakeClock(), rules=rules).verify(STALE)


@pytest.mark.parametrize("name", ["authorization", "api-key", "x-api-key"])
@pytest.mark.parametrize("is_other", [False, True], ids=["equal", "another"])
@pytest.mark.parametrize("is_joined", [False, True], ids=["as sent", "as the host joins them"])
async def test_two_credentials_are_none(name: str, *, is_other: bool, is_joined: bool) -> None:
    """Which of them was meant nobody can tell; equal ones are no exception."""
    scheme = "Bearer " if name == "authorization" else ""
    first = scheme + token()
    second = scheme + token(payload=claims(sub="bob")) if is_other else first
    headers = ((name, f"{first}, {second}"),) if is_joined else ((name, first), (name, second))

    with pytest.raises(Unauthenticated) as refused:
        await verifier(FakeClock()).verify(token_in(headers))

    assert refused.value.reason == "several_credentials"


async def test_the_longest_token_is_16_kib() -> None:
    """16,384 characters, not one more."""
    padded = [token(payload=claims(pad="x" * (11_700 + n))) for n in range(120)]
    longest = max((text for text in padded if len(text) <= 16_384), key=len)
    too_long = min((text for text in padded if len(text) > 16_384), key=len)

    assert (await verifier(FakeClock()).verify(longest)).subject == "alice"
    await refuse(too_long)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None},
        {"iss": "https://evil.example/"},
        {"iss": ISSUER + "/"},
        {"iss": ISSUER.upper()},
        {"iss": [ISSUER]},
        {"aud": None},
        {"aud": ""},
        {"aud": []},
    ],
    ids=str,
)
async def test_a_token_of_another_issuer_is_refused(changes: dict[str, object]) -> None:
    """The issuer matches exactly, and the audience is mandatory."""
    await refuse(token(payload=claims(**changes)))


@pytest.mark.parametrize(
    "audience",
    [
        "api://other",
        AUDIENCE + "/",
        ["api://other"],
        {"api://meter": 1},
        7,
        "\x1b[2J\u202e",
    ],
    ids=repr,
)
async def test_a_token_for_another_audience_is_refused(audience: object) -> None:
    """The audience matches exactly. The caller learns both, printable: they are in its own token."""
    text = token(payload=claims(aud=audience))

    with pytest.raises(Unauthenticated) as refused:
        await verifier(FakeClock()).verify(text)

    message = refused.value.message
    assert message.endswith(f"; expected {AUDIENCE}.")
    assert message.startswith("Unauthorized. The access token's audience is ")
    assert message.isprintable()


async def test_an_unsigned_audience_is_not_shown() -> None:
    """What a forged token says is not repeated."""
    await refuse(token(payload=claims(aud="api://other"), key=rsa_key(2048, "forger")))


async def test_an_audience_may_be_one_of_several() -> None:
    """On either side."""
    many = rules(audiences=frozenset({"api://x", AUDIENCE}))
    text = token(payload=claims(aud=["api://y", AUDIENCE]))

    assert (await verifier(FakeClock(), rules=many).verify(text)).subject == "alice"


async def test_an_issuer_is_judged_by_its_own_keys() -> None:
    """A key of one trusted issuer signs no token of another."""
    second = "https://second.example"
    source = FakeKeySource({ISSUER: [jwk()], second: [jwk(key=rsa_key(2048, "second"))]})
    both = rules(issuers=frozenset({ISSUER, second}))

    await refuse(token(payload=claims(iss=second)), by=both, source=source)


TIMES_IN: list[dict[str, object]] = [
    {"exp": NOW - 59},
    {"nbf": NOW + 60},
    {"iat": NOW + 60},
    {"nbf": None, "iat": None},
    {"exp": NOW + 0.5},
]
TIMES_OUT: list[dict[str, object]] = [
    {"exp": NOW - 60},
    {"exp": 0},
    {"exp": -1},
    {"exp": None},
    {"exp": True},
    {"exp": str(NOW + 60)},
    {"exp": float("nan")},
    {"exp": float("inf")},
    {"exp": 10**18},
    {"exp": 10**400},
    {"exp": [NOW]},
    {"nbf": NOW + 61},
    {"nbf": "0"},
    {"nbf": True},
    {"nbf": float("nan")},
    {"iat": NOW + 61},
    {"iat": False},
    {"iat": {}},
    {"iat": -(10**400)},
]


@pytest.mark.parametrize("changes", TIMES_IN, ids=str)
async def test_clocks_may_differ_by_a_minute(changes: dict[str, object]) -> None:
    """`exp`, `nbf` and `iat` with 60 s of leeway."""
    text = token(payload=claims(**changes))

    assert (await verifier(FakeClock()).verify(text)).subject == "alice"


@pytest.mark.parametrize("changes", TIMES_OUT, ids=lambda row: str(row)[:40])
async def test_a_token_out_of_its_time_is_refused(changes: dict[str, object]) -> None:
    """Also one whose times are no times."""
    with pytest.raises(Unauthenticated):
        await verifier(FakeClock()).verify(token(payload=claims(**changes)))


async def test_the_caller_learns_how_long_ago_its_token_expired() -> None:
    """Or how long it is until the token is valid; leeway apart."""
    expired, early = claims(exp=NOW - 100), claims(nbf=NOW + 90)

    reasons = [
        await refuse(
            token(payload=expired),
            message="Unauthorized. The access token expired 100 seconds ago.",
        ),
        await refuse(
            token(payload=early),
            message="Unauthorized. The access token is not valid for another 90 seconds.",
        ),
    ]

    assert reasons == ["expired", "not_yet_valid"]


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "n", "azp": None},
        {"nonce": "n", "azp": None, "at_hash": "h"},
        {"at_hash": "h", "azp": None},
        {"c_hash": "h", "azp": None},
        {"nonce": "n", "azp": None, "roles": ["Meter.Call"]},
    ],
    ids=str,
)
async def test_an_id_token_gives_no_access(changes: dict[str, object]) -> None:
    """It tells the client who signed in. It may be for the same audience and carry the roles."""
    by = rules(required_roles=frozenset({"Meter.Call"})) if "roles" in changes else RULES

    assert await refuse(token(payload=claims(**changes)), by=by) == "id_token"


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "n"},
        {"nonce": "n", "azp": None, "appid": "app-v1"},
        {"nonce": "n", "azp": None, "scp": "call"},
        {"azp": None},
    ],
    ids=str,
)
async def test_an_access_token_may_have_a_nonce(changes: dict[str, object]) -> None:
    """It names the client app or a scope."""
    assert (await verifier(FakeClock()).verify(token(payload=claims(**changes)))).subject == "alice"


@pytest.mark.parametrize(
    "subject", ["", "s" * 256, "\ud800", "a\udfffb", 7, ["alice"], {}, True, None]
)
@pytest.mark.parametrize("claim", ["sub", "upn"])
async def test_what_cannot_be_billed_is_refused(claim: str, subject: object) -> None:
    """1-255 characters that UTF-8 can write; a longer or empty subject is an invalid token."""
    await refuse(token(payload=claims(**{claim: subject})), by=rules(subject_claim=claim))


@pytest.mark.parametrize("subject", ["s", "s" * 255, "/\\#?\n\x00", "\u00e9\U0001f600", " "])
async def test_a_subject_may_hold_any_characters(subject: str) -> None:
    """Escaping is storage's business."""
    principal = await verifier(FakeClock()).verify(token(payload=claims(sub=subject)))

    assert principal.subject == subject


async def test_the_subject_can_be_another_claim() -> None:
    """`METER_SUBJECT_CLAIM`."""
    by = rules(subject_claim="oid")

    assert (await verifier(FakeClock(), rules=by).verify(token())).subject == "object-1"


async def test_the_client_app_of_a_v1_token_is_its_appid() -> None:
    """`azp` in v2 tokens, `appid` in v1 tokens."""
    text = token(payload=claims(azp=None, appid="app-v1"))

    assert (await verifier(FakeClock()).verify(text)).client_app == "app-v1"


@pytest.mark.parametrize("value", ["", "x" * 256, "\ud800", 7, ["object-1"]])
async def test_other_claims_that_cannot_be_stored_are_left_out(value: object) -> None:
    """They are recorded beside the subject, and decide nothing."""
    text = token(payload=claims(oid=value))

    assert (await verifier(FakeClock()).verify(text)).object_id is None


@pytest.mark.parametrize("tenant", ["tenant-2", None, ["tenant-1"]])
async def test_a_tenant_that_is_not_allowed_is_refused(tenant: object) -> None:
    """401; a token that names none is refused too."""
    by = rules(allowed_tenants=frozenset({"tenant-1"}))

    await refuse(token(payload=claims(tid=tenant)), by=by)


APPS = rules(allowed_apps=frozenset({"app-1"}))
ROLES = rules(required_roles=frozenset({"Meter.Call", "Meter.Admin"}))
SCOPES = rules(required_scopes=frozenset({"call"}))
EITHER = rules(required_roles=frozenset({"Meter.Call"}), required_scopes=frozenset({"call"}))


@pytest.mark.parametrize(
    ("by", "changes"),
    [
        (APPS, {"azp": "app-2"}),
        (APPS, {"azp": None}),
        (ROLES, {}),
        (ROLES, {"roles": ["Other"]}),
        (ROLES, {"roles": "Meter.Call"}),
        (ROLES, {"roles": [["Meter.Call"]]}),
        (ROLES, {"scp": "Meter.Call"}),
        (SCOPES, {"scp": "caller"}),
        (SCOPES, {"scp": ["call"]}),
        (SCOPES, {"roles": ["call"]}),
        (EITHER, {}),
    ],
    ids=str,
)
async def test_a_caller_without_the_permission_is_forbidden(
    by: TokenRules, changes: dict[str, object]
) -> None:
    """403: the token is valid, its app, roles or scopes are not among those asked for."""
    with pytest.raises(Forbidden) as refused:
        await verifier(FakeClock(), rules=by).verify(token(payload=claims(**changes)))

    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (APPS, "The token is valid, but the client app app-2 may not call this API."),
        (
            ROLES,
            "The token is valid, but lacks the permission to call this API: "
            "the role Meter.Admin or Meter.Call.",
        ),
        (
            EITHER,
            "The token is valid, but lacks the permission to call this API: "
            "the role Meter.Call or the scope call.",
        ),
    ],
)
async def test_a_forbidden_caller_learns_what_is_missing(by: TokenRules, message: str) -> None:
    """The roles and scopes of which one is needed; the app that is not allowed."""
    with pytest.raises(Forbidden) as refused:
        await verifier(FakeClock(), rules=by).verify(token(payload=claims(azp="app-2")))

    assert refused.value.message == message


@pytest.mark.parametrize(
    ("by", "changes"),
    [
        (APPS, {}),
        (ROLES, {"roles": ["Other", "Meter.Admin"]}),
        (SCOPES, {"scp": "openid call"}),
        (EITHER, {"scp": "call"}),
        (EITHER, {"roles": ["Meter.Call"]}),
    ],
    ids=str,
)
async def test_a_caller_with_the_permission_is_let_in(
    by: TokenRules, changes: dict[str, object]
) -> None:
    """Any one of the roles, or of the scopes."""
    text = token(payload=claims(**changes))

    assert (await verifier(FakeClock(), rules=by).verify(text)).subject == "alice"
