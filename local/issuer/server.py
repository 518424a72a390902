"""Serves the issuer's discovery document and key set on loopback, as Entra ID does.

| request | answer |
|---|---|
| `GET /.well-known/openid-configuration` | OpenID Discovery 1.0: issuer, keys, algorithms |
| `GET /keys` | the JSON Web Key Set (RFC 7517), reread when the file has changed |
| `POST /rotate` | adds a signing key: `{"kid": ...}` |
"""

import asyncio
from pathlib import Path

from aiohttp import web

from local.issuer.keys import ALGORITHM, KeyRing

_HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 0.5


class Issuer:
    """One running issuer; `ring` is the key ring that it publishes."""

    def __init__(self, state_dir: Path) -> None:
        self.ring = KeyRing(state_dir)
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The issuer's name in tokens (`iss`) and the base of its addresses; known once started."""
        return f"http://{_HOST}:{self._port}"

    async def start(self, port: int = 0) -> int:
        """Listens on a loopback port (0: a free one) and returns it."""
        # The first key is made before the port is announced, so that no caller waits for it.
        await asyncio.to_thread(self.ring.keys)
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._key_set)
        app.router.add_post("/rotate", self._rotate)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._runner = runner
        await runner.setup()
        await web.TCPSite(runner, _HOST, port).start()
        self._port = runner.addresses[0][1]
        return self._port

    async def stop(self) -> None:
        """Closes the port and every connection; a second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": [ALGORITHM],
            }
        )

    async def _key_set(self, _request: web.Request) -> web.Response:
        keys = await asyncio.to_thread(self.ring.keys)
        return web.json_response({"keys": [key.public_jwk() for key in keys]})

    async def _rotate(self, _request: web.Request) -> web.Response:
        key = await asyncio.to_thread(self.ring.rotate)
        return web.json_response({"kid": key.kid})
