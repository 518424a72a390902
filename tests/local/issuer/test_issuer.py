"""The local issuer's tokens verify with its published keys, through rotations and restarts."""

import asyncio
import signal
import stat
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from local.issuer.keys import KeyRing
from local.issuer.server import Issuer
from local.issuer.tokens import mint

AUDIENCE = "api://meter"


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    server = Issuer(tmp_path)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def verify(http: aiohttp.ClientSession, issuer: Issuer, token: str) -> dict[str, Any]:
    async with http.get(f"{issuer.url}/.well-known/openid-configuration") as answer:
        discovery = await answer.json()
    async with http.get(discovery["jwks_uri"]) as answer:
        keys = {key["kid"]: key for key in (await answer.json())["keys"]}
    key = jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]])
    return jwt.decode(
        token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=discovery["issuer"]
    )


def token_of(issuer: Issuer, **changes: Any) -> str:
    wanted = {"issuer": issuer.url, "audience": AUDIENCE, "subject": "alice"} | changes
    return mint(issuer.ring, **wanted)


def unverified(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


async def test_a_minted_token_verifies_with_the_published_keys(
    issuer: Issuer, http: aiohttp.ClientSession
) -> None:
    """Discovery leads to a key set that verifies what the ring on disk signs."""
    token = token_of(issuer, roles=["Usage.Read"], app_id="app-1")

    content = await verify(http, issuer, token)

    assert content["sub"] == "alice"
    assert content["ver"] == "2.0"
    assert content["azp"] == "app-1"
    assert content["roles"] == ["Usage.Read"]
    assert content["exp"] - content["iat"] == 3600
    assert jwt.get_unverified_header(token)["typ"] == "JWT"


async def test_the_key_set_has_no_private_members(
    issuer: Issuer, http: aiohttp.ClientSession
) -> None:
    """A published key has the public members of RFC 7518 section 6.3.1 and no others."""
    async with http.get(f"{issuer.url}/keys") as answer:
        key_set = await answer.json()

    assert [sorted(key) for key in key_set["keys"]] == [["alg", "e", "kid", "kty", "n", "use"]]


async def test_a_rotation_keeps_older_tokens_valid(
    issuer: Issuer, http: aiohttp.ClientSession
) -> None:
    """After a rotation new tokens name the new key, and old ones still verify."""
    before = token_of(issuer)
    async with http.post(f"{issuer.url}/rotate") as answer:
        kid = (await answer.json())["kid"]
    after = token_of(issuer)

    assert jwt.get_unverified_header(before)["kid"] != kid
    assert jwt.get_unverified_header(after)["kid"] == kid
    assert (await verify(http, issuer, before))["sub"] == "alice"
    assert (await verify(http, issuer, after))["sub"] == "alice"


async def test_a_dropped_key_is_published_no_more(
    issuer: Issuer, http: aiohttp.ClientSession
) -> None:
    """Dropping takes an old key out of the key set; the signing key cannot be dropped."""
    old = issuer.ring.signing_key()
    new = issuer.ring.rotate()
    issuer.ring.drop(old.kid)

    async with http.get(f"{issuer.url}/keys") as answer:
        key_set = await answer.json()
    assert [key["kid"] for key in key_set["keys"]] == [new.kid]
    with pytest.raises(ValueError, match="only an old key can be dropped"):
        issuer.ring.drop(new.kid)


async def test_another_process_rotates_the_keys(
    issuer: Issuer, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The server rereads the ring's file after another process has changed it."""
    issuer.ring.signing_key()
    other = KeyRing(tmp_path)
    other.rotate()
    token = mint(other, issuer=issuer.url, audience=AUDIENCE, subject="bob")

    assert (await verify(http, issuer, token))["sub"] == "bob"


async def test_the_keys_survive_a_restart(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """A token from before the restart verifies after it; the file is for its owner only."""
    first = Issuer(tmp_path)
    port = await first.start()
    token = token_of(first)
    await first.stop()
    second = Issuer(tmp_path)
    await second.start(port)

    content = await verify(http, second, token)

    await second.stop()
    assert content["sub"] == "alice"
    assert stat.S_IMODE((tmp_path / "issuer" / "keys.json").stat().st_mode) == 0o600


def test_two_rings_on_a_new_file_agree(tmp_path: Path) -> None:
    """The first ring creates the key; the other one reads it."""
    assert KeyRing(tmp_path).signing_key().kid == KeyRing(tmp_path).signing_key().kid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain words", "plain words"),
        ("1", 1),
        ('"1"', "1"),
        ('["a", "b"]', ["a", "b"]),
        ("true", True),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_a_claim_is_json_where_it_parses_as_json(tmp_path: Path, text: str, value: object) -> None:
    """Overrides take JSON values, and text where the value is not JSON."""
    token = mint(KeyRing(tmp_path), issuer="i", audience="a", subject="s", claims={"scp": text})

    assert unverified(token)["scp"] == value


def test_a_null_claim_is_removed(tmp_path: Path) -> None:
    """`k=null` takes a claim out; other overrides replace it, even with a wrong type."""
    claims = {"exp": "null", "iss": "7", "tid": "other-tenant"}
    token = mint(KeyRing(tmp_path), issuer="i", audience="a", subject="s", claims=claims)

    content = unverified(token)

    assert "exp" not in content
    assert content["iss"] == 7
    assert content["tid"] == "other-tenant"
    assert "roles" not in content


def test_a_subject_always_has_the_same_object_id(tmp_path: Path) -> None:
    """`oid` depends on the subject alone, as a directory object does on its person."""
    ring = KeyRing(tmp_path)
    now = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
    tokens = [
        unverified(mint(ring, issuer="i", audience=audience, subject=subject, now=now))
        for audience, subject in (("a", "alice"), ("b", "alice"), ("a", "bob"))
    ]

    assert tokens[0]["oid"] == tokens[1]["oid"]
    assert tokens[0]["oid"] != tokens[2]["oid"]
    assert [token["iat"] for token in tokens] == [1795417200, 1795417200, 1795417200]


async def test_the_command_says_ready_and_ends_on_sigterm(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """`python -m local.issuer` prints its port when it listens; SIGTERM ends it with exit 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.issuer", "--port", "0", "--state", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    word, port = (await process.stdout.readline()).split()
    async with http.get(f"http://127.0.0.1:{int(port)}/.well-known/openid-configuration") as answer:
        discovery = await answer.json()
    process.send_signal(signal.SIGTERM)

    assert await process.wait() == 0
    assert word == b"ready"
    assert discovery["issuer"] == f"http://127.0.0.1:{int(port)}"
