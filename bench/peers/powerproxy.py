"""PowerProxy for Azure OpenAI, from its public repository: checks a key, balances, logs usage to a file."""

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

from bench.gateway.content import Ask
from bench.gateway.ground import KEY, Ground
from bench.gateway.load import Wire
from bench.gateway.servers import Launch, Spec
from bench.peers.install import FOLDER, python_packages, run

_REPOSITORY = "https://github.com/timoklimmer/powerproxy-aoai"
_COMMIT = "8faa62e"
_CLIENT_KEY = "c" * 32


def powerproxy() -> Spec:
    """PowerProxy as a gateway to measure."""

    async def launch(ground: Ground, port: int, scratch: Path) -> Launch:
        source = await _source()
        programs = await python_packages("powerproxy", "-r", str(source / "requirements.txt"))
        config = {
            "clients": [{"name": "bench", "key": _CLIENT_KEY}],
            "plugins": [{"name": "LogUsageToCsvFile"}],
            "aoai": {
                "endpoints": [
                    {"name": f"backend-{number}", "url": url, "key": KEY}
                    for number, url in enumerate(ground.urls())
                ]
            },
        }
        # It reads its own folder where it runs, and writes beside it.
        folder = shutil.copytree(source / "app", scratch / "app")
        file = scratch / "config.yaml"
        file.write_text(json.dumps(config))  # JSON is YAML
        arguments = [str(programs / "python"), str(folder / "powerproxy.py")]
        return Launch(
            arguments=[*arguments, "--config-file", str(file), "--port", str(port)],
            settings={"PYTHONPATH": ""},
            folder=folder,
        )

    return Spec(name="PowerProxy", launch=launch, may_change=True, wires=_wires)


async def _source() -> Path:
    folder = FOLDER / "powerproxy-source"
    if not (folder / ".installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        await run("git", "clone", "--quiet", _REPOSITORY, str(folder))
        await run("git", "checkout", "--quiet", _COMMIT, folder=folder)
        (folder / ".installed").touch()
    return folder


def _wires(ask: Ask, _tokens: Sequence[str]) -> Iterator[Wire]:
    lines = [
        f"POST {ask.deployment.path} HTTP/1.1",
        "Host: gateway",
        f"api-key: {_CLIENT_KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(ask.body)}",
    ]
    return repeat(("\r\n".join(lines).encode() + b"\r\n\r\n" + ask.body, ask.expected))
