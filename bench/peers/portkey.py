"""Portkey's gateway on Node: balances over the backends by a configuration in a header. No tokens."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path

from bench.gateway.content import Ask
from bench.gateway.ground import KEY, Ground
from bench.gateway.load import Wire
from bench.gateway.servers import Launch, Spec
from bench.peers.install import node_package

_PACKAGE = "@portkey-ai/gateway"


def portkey() -> Spec:
    """Portkey as a gateway to measure."""
    urls: list[str] = []

    async def launch(ground: Ground, port: int, _scratch: Path) -> Launch:
        urls[:] = ground.urls()
        folder = await node_package("portkey", _PACKAGE)
        script = folder / "node_modules" / _PACKAGE / "build" / "start-server.js"
        settings = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
        arguments = ["node", str(script), f"--port={port}", "--headless"]
        return Launch(arguments=arguments, settings=settings)

    return Spec(name="Portkey", launch=launch, may_change=True, wires=partial(_wires, urls))


def _wires(urls: Sequence[str], ask: Ask, _tokens: Sequence[str]) -> Iterator[Wire]:
    deployment = ask.deployment.value
    targets = [
        {
            "provider": "openai",
            "api_key": KEY,
            "custom_host": f"{url}/openai/deployments/{deployment}",
        }
        for url in urls
    ]
    config = json.dumps({"strategy": {"mode": "loadbalance"}, "targets": targets})
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"x-portkey-config: {config}\r\nContent-Length: {len(ask.body)}\r\n\r\n"
    )
    return repeat((head.encode() + ask.body, ask.expected))
