"""Key sets hold usable keys only, stay when a refresh fails, and are fetched seldom."""

import asyncio
import logging

import pytest

from meter.errors import KeysUnavailable
from meter.gateway.caller.jwks import KeyRing, parse_key_set
from tests.fakes.gateway import FakeClock, FakeKeySource
from tests.support.gateway import ISSUER, b64, ec_jwk, jwk, rsa_key

OCT = {"kty": "oct", "kid": "key-1", "k": b64(b"s" * 32)}


def ring(source: FakeKeySource, clock: FakeClock) -> KeyRing:
    return KeyRing(source, clock, 30.0)


def source(*keys: dict[str, object]) -> FakeKeySource:
    return FakeKeySource({ISSUER: list(keys) or [jwk()]})


async def flood(keys: KeyRing, count: int) -> None:
    """Ask for as many unknown keys, all at once."""
    await asyncio.gather(*(keys.key_for(ISSUER, f"random-{n}") for n in range(count)))


@pytest.mark.parametrize(
    "document",
    [
        jwk(use="sig"),
        jwk(key_ops=["verify"]),
        jwk(key_ops=["verify", "encrypt"]),
        jwk(alg="RS256"),
        jwk(x5c=["AA"], x5t="AA"),
    ],
)
def test_a_signature_key_is_usable(document: dict[str, object]) -> None:
    """`use` absent or `sig`, `key_ops` absent or with `verify`."""
    assert list(parse_key_set([document])) == ["key-1"]


@pytest.mark.parametrize(
    "document",
    [
        OCT,
        jwk(use="enc"),
        jwk(use=None),
        jwk(key_ops=[]),
        jwk(key_ops=["encrypt"]),
        jwk(key_ops="verify"),
        jwk(key=rsa_key(1024)),
        jwk(kid=None),
        jwk(7),  # type: ignore[arg-type]  # a key id that is no text
        jwk(kty="EC"),
        jwk(kty=None),
        jwk(n="!!"),
        jwk(n=7),
        jwk(e=None),
        {},
        {"kid": "key-1", "kty": "RSA"},
        {"kid": "key-1", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kid": "key-1", "kty": "OKP", "crv": "Ed25519", "x": b64(b"x" * 32)},
    ],
    ids=lambda document: str(document)[:60],
)
def test_any_other_key_is_left_out(document: dict[str, object]) -> None:
    """Symmetric, for encryption, too short, without an id or not to be read."""
    assert parse_key_set([document]) == {}


def test_a_private_key_by_mistake_is_left_out() -> None:
    """An issuer that publishes its private half has no secret left."""
    from jwt.algorithms import RSAAlgorithm

    document = {
        **RSAAlgorithm.to_jwk(rsa_key(), as_dict=True),
        "kid": "key-1",
        "key_ops": ["verify"],
    }

    assert parse_key_set([document]) == {}


@pytest.mark.parametrize("twin", [jwk(), OCT, jwk(use="enc")], ids=["same", "oct", "enc"])
def test_a_key_id_that_appears_twice_is_refused(twin: dict[str, object]) -> None:
    """Whichever is meant; the other keys of the set stay."""
    assert list(parse_key_set([jwk(), ec_jwk(), twin])) == ["ec-1"]


def test_a_key_is_bound_to_its_algorithms() -> None:
    """An RSA key to RS and PS, a P-256 key to ES256 alone, never to HMAC."""
    keys = parse_key_set([jwk(), ec_jwk()])

    assert keys["ec-1"].algorithms == {"ES256"}
    assert keys["key-1"].algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def test_a_set_is_read_to_its_hundredth_key() -> None:
    """A key set is bounded."""
    documents = [jwk(f"key-{n}") for n in range(150)]

    assert len(parse_key_set(documents)) == 100


async def test_a_key_is_fetched_once() -> None:
    """However often it is asked for."""
    keys = ring(published := source(), FakeClock())
    found = [await keys.key_for(ISSUER, "key-1") for _ in range(3)]

    assert [pair is not None for pair in found] == [True, True, True]
    assert published.fetched == [ISSUER]


async def test_a_flood_of_unknown_keys_costs_one_fetch() -> None:
    """10,000 random key ids within the interval, once the set is loaded: one refresh."""
    clock, published = FakeClock(), source()
    keys = ring(published, clock)
    await keys.load(ISSUER)
    clock.advance(30)

    await flood(keys, 10_000)
    clock.advance(29)
    await flood(keys, 10)

    assert len(published.fetched) == 2


async def test_a_cold_flood_waits_for_one_fetch() -> None:
    """Nobody is refused because the keys are still on their way."""
    published = source()
    published.gate = asyncio.Event()
    keys = ring(published, FakeClock())
    waiting = [asyncio.create_task(keys.key_for(ISSUER, "key-1")) for _ in range(100)]
    asyncio.get_running_loop().call_soon(published.gate.set)

    found = await asyncio.gather(*waiting)

    assert (all(found), published.fetched) == (True, [ISSUER])


async def test_an_unknown_key_is_looked_for_once_an_interval() -> None:
    """A rotation is found with the first refresh that is allowed."""
    clock, published = FakeClock(), source()
    keys = ring(published, clock)
    await keys.load(ISSUER)
    published.keys[ISSUER] = [jwk("key-2")]
    clock.advance(29.9)
    before = await keys.key_for(ISSUER, "key-2")
    clock.advance(0.1)

    after = await keys.key_for(ISSUER, "key-2")

    assert (before, after is not None) == (None, True)
    assert await keys.key_for(ISSUER, "key-1") is None


async def test_a_failed_refresh_keeps_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    """Stale rather than none: an issuer that is down locks nobody out."""
    caplog.set_level(logging.WARNING)
    clock, published = FakeClock(), source()
    keys = ring(published, clock)
    await keys.load(ISSUER)
    published.is_down = True
    clock.advance(30)

    unknown = await keys.key_for(ISSUER, "key-2")

    assert (unknown, await keys.key_for(ISSUER, "key-1") is not None) == (None, True)
    assert caplog.messages == [
        f"key_set_refresh_failed issuer={ISSUER} reason=the issuer did not answer"
    ]


@pytest.mark.parametrize("published", [[], [OCT], [jwk(use="enc")]], ids=str)
async def test_a_key_set_without_usable_keys_withdraws_the_old_ones(
    published: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    """The issuer answered, and vouches for no key; an error is logged."""
    clock, issuer = FakeClock(), source()
    keys = ring(issuer, clock)
    await keys.load(ISSUER)
    issuer.keys[ISSUER] = published
    clock.advance(30)
    with pytest.raises(KeysUnavailable):
        await keys.key_for(ISSUER, "key-2")

    with pytest.raises(KeysUnavailable):
        await keys.key_for(ISSUER, "key-1")

    assert not await keys.load(ISSUER)
    assert caplog.messages == [f"key_set_empty issuer={ISSUER}"]


async def test_withdrawn_keys_are_accepted_again_once_they_are_published() -> None:
    """An empty key set is fetched again at the interval."""
    clock, issuer = FakeClock(), source()
    keys = ring(issuer, clock)
    issuer.keys[ISSUER] = []
    assert not await keys.load(ISSUER)
    issuer.keys[ISSUER] = [jwk()]
    clock.advance(30)

    assert await keys.key_for(ISSUER, "key-1") is not None


@pytest.mark.parametrize("hours", [2.1, 24, 72])
async def test_an_overdue_refresh_is_awaited(hours: float) -> None:
    """After a long time without calls the first one is judged by the keys of now."""
    clock, issuer = FakeClock(), source()
    keys = ring(issuer, clock)
    await keys.load(ISSUER)
    issuer.keys[ISSUER] = [jwk("key-2")]
    clock.advance(hours * 3600)

    assert await keys.key_for(ISSUER, "key-1") is None


async def test_a_remembered_key_set_that_is_overdue_is_refreshed_first() -> None:
    """What it verified is dropped with a key that is gone."""
    clock, issuer = FakeClock(), source()
    keys = ring(issuer, clock)
    found = await keys.key_for(ISSUER, "key-1")
    assert found is not None
    issuer.keys[ISSUER] = [jwk("key-2")]
    clock.advance(7201)

    assert not await keys.is_current(ISSUER, found[1])


async def test_stale_keys_are_used_for_a_day() -> None:
    """An issuer that is down locks nobody out until then; afterwards its tokens are not verified."""
    clock, issuer = FakeClock(), source()
    keys = ring(issuer, clock)
    found = await keys.key_for(ISSUER, "key-1")
    assert found is not None
    issuer.is_down = True
    clock.advance(86_400)
    assert await keys.key_for(ISSUER, "key-1") is not None
    assert await keys.is_current(ISSUER, found[1])
    clock.advance(1)

    with pytest.raises(KeysUnavailable):
        await keys.key_for(ISSUER, "key-1")
    assert not await keys.is_current(ISSUER, found[1])
    assert not await keys.load(ISSUER)


async def test_an_overdue_refresh_that_fails_is_tried_once_an_interval() -> None:
    """Callers do not wait for an issuer that is down, each of them."""
    clock, issuer = FakeClock(), source()
    keys = ring(issuer, clock)
    await keys.load(ISSUER)
    issuer.is_down = True
    clock.advance(10_000)

    found = [await keys.key_for(ISSUER, "key-1") for _ in range(10)]

    assert (all(found), len(issuer.fetched)) == (True, 2)


async def test_keys_that_were_never_loaded_are_unavailable() -> None:
    """The token cannot be judged, and the issuer is asked again after the interval only."""
    clock, published = FakeClock(), source()
    published.is_down = True
    keys = ring(published, clock)
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await keys.key_for(ISSUER, "key-1")
    assert len(published.fetched) == 1
    published.is_down = False
    clock.advance(30)

    assert await keys.key_for(ISSUER, "key-1") is not None


async def test_keys_are_refreshed_by_the_hour_without_making_callers_wait() -> None:
    """The old key is given at once while the fetch goes on."""
    clock, published = FakeClock(), source()
    keys = ring(published, clock)
    await keys.load(ISSUER)
    published.gate = asyncio.Event()
    clock.advance(3601)

    found = await keys.key_for(ISSUER, "key-1")

    assert found is not None
    await asyncio.sleep(0)  # lets the fetch begin
    assert len(published.fetched) == 2
    published.gate.set()
    await keys.key_for(ISSUER, "unknown")


async def test_a_caller_that_leaves_does_not_cancel_the_fetch() -> None:
    """Others wait for the same one."""
    published = source()
    published.gate = asyncio.Event()
    keys = ring(published, FakeClock())
    first, second = (asyncio.create_task(keys.key_for(ISSUER, "key-1")) for _ in range(2))
    await asyncio.sleep(0)  # lets both wait
    first.cancel()
    published.gate.set()

    found = await second

    assert (found is not None, published.fetched) == (True, [ISSUER])


async def test_loading_says_whether_the_keys_are_here() -> None:
    """For `/readyz`."""
    down, up = source(), source()
    down.is_down = True

    assert [await ring(s, FakeClock()).load(ISSUER) for s in (down, up)] == [False, True]


async def test_a_key_set_is_current_until_another_one() -> None:
    """So that what it verified can be dropped with it."""
    clock, published = FakeClock(), source()
    keys = ring(published, clock)
    found = await keys.key_for(ISSUER, "key-1")
    assert found is not None
    was_current = await keys.is_current(ISSUER, found[1])
    clock.advance(30)
    published.keys[ISSUER] = [jwk("key-1"), jwk("key-2")]
    await keys.key_for(ISSUER, "key-2")

    assert (was_current, await keys.is_current(ISSUER, found[1])) == (True, False)


@pytest.mark.parametrize("kind", [[], {}])
def test_one_odd_key_does_not_spoil_the_set(kind: object) -> None:
    """A member of any type is a reason to leave that key out, and no other."""
    assert list(parse_key_set([{"kid": "odd", "kty": kind}, jwk()])) == ["key-1"]
