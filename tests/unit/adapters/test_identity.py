"""The gateway's own credentials: kept while they hold, renewed before they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError

from meter.adapters.identity import ConfiguredCredentials
from meter.errors import UpstreamError
from meter.gateway.backend import ApiKey, ManagedIdentity
from meter.ports import Headers
from tests.fakes.gateway import FakeClock


class Identity(AsyncTokenCredential):
    """Gives tokens that last so many seconds, and then fails."""

    def __init__(self, *lifetimes: int) -> None:
        self.clock = FakeClock()
        self.lifetimes = list(lifetimes)
        self.asked = 0

    async def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        self.asked += 1
        if not self.lifetimes:
            raise ClientAuthenticationError("down")
        return AccessToken(f"token-{self.asked}", _expiry(self.clock, self.lifetimes.pop(0)))

    async def close(self) -> None:
        return None

    async def __aexit__(self, *_details: object) -> None:
        return None


def _expiry(clock: FakeClock, lifetime: int) -> int:
    return int(clock.now().timestamp()) + lifetime


def made_with(identity: "Identity | SlowIdentity", **options: str) -> ConfiguredCredentials:
    """Credentials of one backend that needs the identity, on the identity's clock."""
    auth = {"a": ManagedIdentity()}
    return ConfiguredCredentials(auth, identity, clock=identity.clock, **options)


async def test_a_key_is_sent_as_azure_wants_it() -> None:
    """`api-key`, and the key is never shown."""
    made = ConfiguredCredentials({"a": ApiKey("secret")}, None)

    assert await made.headers_for("a") == (("api-key", "secret"),)
    assert "secret" not in repr(ApiKey("secret"))


async def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    """One request to the identity endpoint serves many calls."""
    identity = Identity(3600)
    made = made_with(identity)
    await made.headers_for("a")

    assert await made.headers_for("a") == (("authorization", "Bearer token-1"),)
    assert identity.asked == 1


async def test_a_token_is_at_hand_while_it_holds() -> None:
    """Nothing has to be waited for then; before the first one it has."""
    identity = Identity(3600, 3600)
    made = made_with(identity)
    before = made.at_hand("a")
    await made.headers_for("a")
    during = made.at_hand("a")
    identity.clock.advance(3600)

    assert (before, during) == (None, (("authorization", "Bearer token-1"),))
    assert made.at_hand("a") is None


async def test_a_token_that_still_holds_is_used_when_no_new_one_can_be_had() -> None:
    """A hiccup of the identity endpoint near the token's end costs no call."""
    made = made_with(Identity(200))
    await made.headers_for("a")

    assert await made.headers_for("a") == (("authorization", "Bearer token-1"),)


async def test_without_any_token_the_call_fails_over() -> None:
    """The next backend may use a key."""
    made = made_with(Identity())

    with pytest.raises(UpstreamError):
        await made.headers_for("a")


class SlowIdentity(AsyncTokenCredential):
    """Answers when the test says so; each answer is a lifetime in seconds, or an error."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.requests: list[asyncio.Future[int]] = []
        self.scopes: set[str] = set()

    async def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        self.scopes |= set(scopes)
        self.requests.append(asyncio.get_running_loop().create_future())
        number = len(self.requests)
        return AccessToken(f"token-{number}", _expiry(self.clock, await self.requests[-1]))

    async def close(self) -> None:
        return None

    async def __aexit__(self, *_details: object) -> None:
        return None


BEARER = (("authorization", "Bearer token-1"),)


@asynccontextmanager
async def callers(
    made: ConfiguredCredentials, count: int
) -> AsyncIterator[list[asyncio.Task[Headers]]]:
    """Calls that have asked for their header and wait."""
    tasks: list[asyncio.Task[Headers]] = [
        asyncio.ensure_future(made.headers_for("a")) for _ in range(count)
    ]
    await settle()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def settle() -> None:
    """Let every task run until it waits for the identity."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_that_come_together_share_one_request() -> None:
    """An instance's first calls would else get 429 from the identity endpoint."""
    identity = SlowIdentity()
    made = made_with(identity)
    async with callers(made, 100) as calls:
        identity.requests[0].set_result(3600)
        headers = await asyncio.gather(*calls)

    assert headers == [BEARER] * 100
    assert len(identity.requests) == 1


async def test_an_error_reaches_every_call_that_waits_and_the_next_call_asks_again() -> None:
    """Nobody waits for a request that is over; a failure is not remembered."""
    identity = SlowIdentity()
    made = made_with(identity)
    async with callers(made, 3) as calls:
        identity.requests[0].set_exception(ClientAuthenticationError("down"))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    async with callers(made, 1) as (later,):
        identity.requests[1].set_result(3600)
        headers = await later

    assert [type(outcome) for outcome in outcomes] == [UpstreamError] * 3
    assert headers == (("authorization", "Bearer token-2"),)


async def test_a_caller_that_leaves_does_not_cancel_the_request_of_the_others() -> None:
    """Even if it is the one whose call began the request."""
    identity = SlowIdentity()
    made = made_with(identity)
    async with callers(made, 3) as (first, *others):
        first.cancel()
        await settle()
        identity.requests[0].set_result(3600)
        headers = await asyncio.gather(*others)

    assert headers == [BEARER] * 2
    assert first.cancelled()
    assert len(identity.requests) == 1


async def test_a_token_near_its_end_is_renewed_while_calls_use_it() -> None:
    """Renewal costs no call any time, and is one request however many calls come meanwhile."""
    identity = SlowIdentity()
    made = made_with(identity)
    async with callers(made, 1) as (first,):
        identity.requests[0].set_result(3600)
        await first
    identity.clock.advance(3301)
    during = [await made.headers_for("a") for _ in range(5)]
    await settle()
    identity.requests[1].set_result(7200)
    await settle()

    assert during == [BEARER] * 5
    assert await made.headers_for("a") == (("authorization", "Bearer token-2"),)
    assert len(identity.requests) == 2


async def test_a_renewal_that_fails_is_not_repeated_by_every_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hundred calls a second would be a hundred requests to an endpoint that is down."""
    identity = Identity(200)
    made = made_with(identity)
    await made.headers_for("a")
    identity.clock.advance(6)
    for _ in range(5):
        await made.headers_for("a")
        await settle()

    assert identity.asked == 2
    assert [record.getMessage() for record in caplog.records] == [
        "token_renewal_failed reason=down"
    ]


async def test_the_token_is_for_the_configured_scope() -> None:
    """Sovereign clouds have their own; the public cloud's is the default."""
    public, government = SlowIdentity(), SlowIdentity()
    scope = "https://cognitiveservices.azure.us/.default"
    async with callers(made_with(public), 1), callers(made_with(government, scope=scope), 1):
        pass

    assert public.scopes == {"https://cognitiveservices.azure.com/.default"}
    assert government.scopes == {"https://cognitiveservices.azure.us/.default"}


async def test_closing_ends_a_request_under_way() -> None:
    """The process ends; the identity endpoint may be down."""
    identity = SlowIdentity()
    made = made_with(identity)
    async with callers(made, 1):
        await made.close()

        assert identity.requests[0].cancelled()
