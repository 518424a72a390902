"""`meter.ports.BackendCredentials`: an API key from a setting, or the app's managed identity.

| the token                             | a call                                                    |
|---------------------------------------|-----------------------------------------------------------|
| holds for over `RENEW_BEFORE_SECONDS` | takes it                                                  |
| holds for less                        | takes it; one request for the next is under way           |
| none, or expired                      | waits for the one request; its error is every waiter's    |

An instance's first calls come together: the identity endpoint answers many requests at once with 429.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from meter.adapters.clock import SystemClock
from meter.config.values import PUBLIC_CLOUD_SCOPE
from meter.errors import UpstreamError
from meter.gateway.backend import ApiKey, BackendAuth, ManagedIdentity
from meter.ports import Clock, Headers

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

RENEW_BEFORE_SECONDS = 300
MOST_REMOVED = 1_000  # backends whose credentials are kept after they were removed
RENEWAL_PAUSE_SECONDS = 5.0  # between two renewals, while the old token still holds

log = logging.getLogger(__name__)


class ConfiguredCredentials:
    """Credentials as configured per backend; tokens are kept until shortly before they expire.

    `identity` is the app's own, unless given, where a backend needs one.
    """

    def __init__(
        self,
        auth: Mapping[str, BackendAuth],
        identity: "AsyncTokenCredential | None" = None,
        *,
        scope: str = PUBLIC_CLOUD_SCOPE,
        clock: Clock | None = None,
    ) -> None:
        self._auth: Mapping[str, BackendAuth] = {}
        self._identity = identity
        self.replace(auth)
        self._scope = scope
        self._clock = clock or SystemClock()
        self._token = ""
        self._expires_at = 0.0
        self._renew_at = 0.0
        self._renewing: asyncio.Task[None] | None = None

    def replace(self, auth: Mapping[str, BackendAuth]) -> bool:
        """Use these from now on; whether one of a backend that stays is another.

        Those of removed backends are kept: calls under way and follow-ups may still need them.
        """
        before = self._auth
        removed = [name for name in self._auth if name not in auth][-MOST_REMOVED:]
        self._auth = {name: self._auth[name] for name in removed} | dict(auth)
        needs_identity = any(isinstance(each, ManagedIdentity) for each in auth.values())
        if self._identity is None and needs_identity:
            # A tenth of a start's CPU time, for those alone that need it.
            from azure.identity.aio import DefaultAzureCredential

            self._identity = DefaultAzureCredential()
        return any(before[name] != auth[name] for name in before.keys() & auth.keys())

    async def close(self) -> None:
        """Stop a request under way and close the identity's connections."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._identity is not None:
            await self._identity.close()

    def at_hand(self, backend: str) -> Headers | None:
        """The header that authenticates the gateway; None where a token has to be waited for."""
        auth = self._auth[backend]
        if isinstance(auth, ApiKey):
            return (("api-key", auth.value),)
        now = self._clock.now().timestamp()
        if now >= self._expires_at:
            return None
        if now >= self._renew_at:
            self._renewal()
        return self._with_token()

    async def headers_for(self, backend: str) -> Headers:
        """The header that authenticates the gateway. Raises UpstreamError."""
        headers = self.at_hand(backend)
        if headers is not None:
            return headers
        # Shielded: a caller that leaves must not cancel the request of the others.
        await asyncio.shield(self._renewal())
        return self._with_token()

    def _with_token(self) -> Headers:
        return (("authorization", f"Bearer {self._token}"),)

    def _renewal(self) -> asyncio.Task[None]:
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
            self._renewing.add_done_callback(self._renewed)
        return self._renewing

    async def _renew(self) -> None:
        from azure.core.exceptions import AzureError

        assert self._identity is not None, "a backend that needs an identity has one"
        try:
            token = await self._identity.get_token(self._scope)
        except AzureError as exc:
            raise UpstreamError("the managed identity gave no token") from exc
        self._token, self._expires_at = token.token, float(token.expires_on)
        self._renew_at = self._expires_at - RENEW_BEFORE_SECONDS

    def _renewed(self, renewal: asyncio.Task[None]) -> None:
        self._renewing = None
        # A token that is short-lived, or cannot be renewed, must not be renewed by every call.
        self._renew_at = max(self._renew_at, self._clock.now().timestamp() + RENEWAL_PAUSE_SECONDS)
        if not renewal.cancelled() and (error := renewal.exception()) is not None:
            reason = str(error.__cause__ or error).partition("\n")[0]
            log.warning("token_renewal_failed reason=%s", reason)
