"""A verified token is remembered only as long as it, and the key that signed it, hold."""

import asyncio
import logging
from uuid import UUID

import pytest

from meter.errors import Unauthenticated
from meter.gateway.caller import auth
from meter.gateway.headers import by_name
from meter.ports import Headers
from tests.fakes.gateway import FakeClock, FakeKeySource
from tests.support.gateway import ISSUER, NOW, claims, jwk, rsa_key, token, verifier

ROTATED = "key-2"


def rotated() -> dict[str, object]:
    return jwk(ROTATED, rsa_key(2048, "rotated"))


async def test_a_token_is_verified_once() -> None:
    """The same token gives the very same principal."""
    door, text = verifier(FakeClock()), token()

    assert await door.verify(text) is await door.verify(text)


async def test_another_token_of_the_same_subject_is_another_entry() -> None:
    """The key is the whole token: a changed signature never finds another's entry."""
    door, text = verifier(FakeClock()), token()
    await door.verify(text)
    head, payload, signature = text.split(".")
    swapped = signature[1:] + signature[:1]

    with pytest.raises(Unauthenticated):
        await door.verify(f"{head}.{payload}.{swapped}")


async def test_a_remembered_token_expires() -> None:
    """At `exp` with its leeway, as if it were verified anew."""
    clock = FakeClock()
    door, text = verifier(clock), token(payload=claims(exp=NOW + 100))
    await door.verify(text)
    clock.advance(159)
    assert (await door.verify(text)).subject == "alice"
    clock.advance(1)

    with pytest.raises(Unauthenticated):
        await door.verify(text)


async def test_a_key_that_is_gone_takes_its_tokens_along() -> None:
    """Once the refreshed key set lacks the key, what it signed is refused."""
    clock, source = FakeClock(), FakeKeySource({ISSUER: [jwk()]})
    door, old = verifier(clock, source), token()
    await door.verify(old)
    source.keys[ISSUER] = [rotated()]
    clock.advance(30)
    await door.verify(token({"kid": ROTATED}, key=rsa_key(2048, "rotated")))

    with pytest.raises(Unauthenticated):
        await door.verify(old)


async def test_a_refresh_that_keeps_the_key_keeps_its_tokens_valid() -> None:
    """They are verified once more, and hold."""
    clock, source = FakeClock(), FakeKeySource({ISSUER: [jwk()]})
    door, old = verifier(clock, source), token()
    await door.verify(old)
    source.keys[ISSUER] = [jwk(), rotated()]
    clock.advance(30)
    await door.verify(token({"kid": ROTATED}, key=rsa_key(2048, "rotated")))

    assert (await door.verify(old)).subject == "alice"


async def test_a_refresh_that_changes_nothing_forgets_nothing() -> None:
    """An hourly refresh must not cost a signature check for every caller at once."""
    clock, source = FakeClock(), FakeKeySource({ISSUER: [jwk()]})
    made, text = verifier(clock, source), token(payload=claims(exp=NOW + 86_400))
    first = await made.verify(text)
    clock.advance(3_601)
    await made.verify(text)
    await asyncio.sleep(0)

    assert len(source.fetched) == 2
    assert await made.verify(text) is first


GOOD, OTHER = token(), token(payload=claims(sub="bob"))


@pytest.mark.parametrize(
    "headers",
    [
        (("authorization", f"Bearer {GOOD}"),),
        (("authorization", f"Bearer   {GOOD} "), ("accept", "*/*")),
        (("authorization", f"bearer {GOOD}"),),
        (("api-key", GOOD),),
        (("authorization", f"Bearer {GOOD}"), ("api-key", OTHER)),
        (("authorization", f"Bearer {GOOD}"), ("api-key", "a, b")),
        (("authorization", f"Bearer {GOOD}"), ("accept", "a"), ("accept", "b")),
        (("authorization", "Bearer eyJ"), ("api-key", OTHER)),
        (("authorization", "Bearer IHsi"), ("api-key", OTHER)),
    ],
)
async def test_a_known_caller_is_the_one_that_its_headers_name(headers: Headers) -> None:
    """Where it is found without a look at all headers, it is whom they name."""
    made = verifier(FakeClock())
    for text in (GOOD, OTHER):
        await made.verify(text)

    known = made.known(headers, by_name(headers), FakeClock().now())

    assert known in (None, await made.verify(auth.token_in(headers)))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("authorization", f"Bearer {GOOD}"), ("authorization", f"Bearer {GOOD}")),
        (("authorization", f"Bearer {GOOD}, {GOOD}"),),
        (("authorization", f"Bearer {GOOD}"), ("authorization", f"Bearer {OTHER}")),
        (("authorization", "Bearer ey\u00e9.\u00e9.\u00e9"),),
        (("authorization", "Bearer ey" + "a" * 20_000),),
    ],
)
async def test_nobody_is_known_by_headers_that_are_refused(headers: Headers) -> None:
    """No credential, two of them, or what is no token: the call is judged as any other."""
    made = verifier(FakeClock())
    for text in (GOOD, OTHER):
        await made.verify(text)

    assert made.known(headers, by_name(headers), FakeClock().now()) is None


async def test_a_caller_is_known_only_while_its_token_and_keys_hold() -> None:
    """To the end of the token, and while its keys need no refresh."""
    clock = FakeClock()
    made = verifier(clock)
    texts = [token(payload=claims(exp=NOW + seconds)) for seconds in (100, 86_400)]
    short, long = [await made.verify(text) for text in texts]
    sent = [(("authorization", f"Bearer {text}"),) for text in texts]

    found = []
    for seconds in (159, 1, 3_440, 1):
        clock.advance(seconds)
        found.append([made.known(each, by_name(each), clock.now()) for each in sent])

    assert found == [[short, long], [None, long], [None, long], [None, None]]


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token used least lately is forgotten first."""
    monkeypatch.setattr(auth, "MAX_CACHED_TOKENS", 2)
    door = verifier(FakeClock())
    texts = [token(payload=claims(sub=name)) for name in ("a", "b", "c")]
    first = await door.verify(texts[0])
    second = await door.verify(texts[1])
    assert await door.verify(texts[0]) is first

    await door.verify(texts[2])

    assert await door.verify(texts[0]) is first
    assert await door.verify(texts[1]) is not second


async def test_the_log_says_why_and_shows_nothing_of_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The reason is for operators; the token, its parts and its subject are not logged."""
    caplog.set_level(logging.DEBUG)
    text = token(payload=claims(exp=NOW - 500, sub="secret-subject"))
    with pytest.raises(Unauthenticated) as refused:
        await verifier(FakeClock()).verify(text)

    auth.log_refusal(refused.value, UUID(int=1))

    shown = " ".join(str(vars(record)) for record in caplog.records)
    assert caplog.messages == [f"token_refused event_id={UUID(int=1)} reason=expired"]
    assert not [part for part in (*text.split("."), "secret-subject") if part in shown]


async def test_remembered_tokens_do_not_keep_a_removed_key_alive() -> None:
    """Also calls that are answered from memory make a due refresh start."""
    clock, source = FakeClock(), FakeKeySource({ISSUER: [jwk()]})
    made, text = verifier(clock, source), token(payload=claims(exp=NOW + 86_400))
    await made.verify(text)
    clock.advance(3_601)
    await made.verify(text)
    await asyncio.sleep(0)

    assert len(source.fetched) == 2
