"""`meter.ports.BackendCredentials`: an API key from a setting, or the app's managed identity."""

import time
from collections.abc import Mapping

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential

from meter.errors import UpstreamError
from meter.gateway.backend import ApiKey, BackendAuth, ManagedIdentity
from meter.ports import Headers

AOAI_SCOPE = "https://cognitiveservices.azure.com/.default"
RENEW_BEFORE_SECONDS = 300


class ConfiguredCredentials:
    """Credentials as configured per backend; tokens are kept until shortly before they expire.

    `identity` is the app's own, unless given, where a backend needs one.
    """

    def __init__(
        self, auth: Mapping[str, BackendAuth], identity: AsyncTokenCredential | None = None
    ) -> None:
        needs_identity = any(isinstance(each, ManagedIdentity) for each in auth.values())
        self._auth = auth
        self._identity = identity or (DefaultAzureCredential() if needs_identity else None)
        self._token = ""
        self._expires_at = 0.0

    async def close(self) -> None:
        """Close the identity's connections."""
        if self._identity is not None:
            await self._identity.close()

    async def headers_for(self, backend: str) -> Headers:
        """The header that authenticates the gateway. Raises UpstreamError."""
        match self._auth[backend]:
            case ApiKey(value):
                return (("api-key", value),)
            case ManagedIdentity():
                return (("authorization", f"Bearer {await self._identity_token()}"),)

    async def _identity_token(self) -> str:
        now = time.time()
        if now >= self._expires_at - RENEW_BEFORE_SECONDS:
            assert self._identity is not None, "a backend that needs an identity has one"
            try:
                token = await self._identity.get_token(AOAI_SCOPE)
                self._token, self._expires_at = token.token, float(token.expires_on)
            except AzureError as exc:
                if now >= self._expires_at:
                    raise UpstreamError("the managed identity gave no token") from exc
        return self._token
