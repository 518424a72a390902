"""The gateway's own credentials: kept while they hold, renewed before they end."""

import time

import pytest
from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError

from meter.adapters.identity import ConfiguredCredentials
from meter.errors import UpstreamError
from meter.gateway.backend import ApiKey, ManagedIdentity


class Identity(AsyncTokenCredential):
    """Gives tokens that last so many seconds, and then fails."""

    def __init__(self, *lifetimes: int) -> None:
        self.lifetimes = list(lifetimes)
        self.asked = 0

    async def get_token(self, *scopes: str, **_options: object) -> AccessToken:
        self.asked += 1
        if not self.lifetimes:
            raise ClientAuthenticationError("down")
        return AccessToken(f"token-{self.asked}", int(time.time()) + self.lifetimes.pop(0))

    async def close(self) -> None:
        return None

    async def __aexit__(self, *_details: object) -> None:
        return None


async def test_a_key_is_sent_as_azure_wants_it() -> None:
    """`api-key`, and the key is never shown."""
    made = ConfiguredCredentials({"a": ApiKey("secret")}, None)

    assert await made.headers_for("a") == (("api-key", "secret"),)
    assert "secret" not in repr(ApiKey("secret"))


async def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    """One request to the identity endpoint serves many calls."""
    identity = Identity(3600)
    made = ConfiguredCredentials({"a": ManagedIdentity()}, identity)
    await made.headers_for("a")

    assert await made.headers_for("a") == (("authorization", "Bearer token-1"),)
    assert identity.asked == 1


async def test_a_token_that_still_holds_is_used_when_no_new_one_can_be_had() -> None:
    """A hiccup of the identity endpoint near the token's end costs no call."""
    made = ConfiguredCredentials({"a": ManagedIdentity()}, Identity(200))
    await made.headers_for("a")

    assert await made.headers_for("a") == (("authorization", "Bearer token-1"),)


async def test_without_any_token_the_call_fails_over() -> None:
    """The next backend may use a key."""
    made = ConfiguredCredentials({"a": ManagedIdentity()}, Identity())

    with pytest.raises(UpstreamError):
        await made.headers_for("a")
