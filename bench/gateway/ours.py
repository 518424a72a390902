"""The front door as a gateway to measure: as an ASGI app, or in Microsoft's runtime."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from bench.gateway.content import Ask
from bench.gateway.ground import USUAL_BACKENDS, Ground
from bench.gateway.load import Wire
from bench.gateway.servers import Launch, Spec, in_turn, uvicorn
from bench.servers import REPOSITORY

APP = "meter.bootstrap:asgi_app"
BACKGROUND = {"METER_DURABILITY": "background"}
ACKNOWLEDGED = {"METER_DURABILITY": "acknowledged"}
"""What a call waits for: nothing, or until the hub has its event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A work tree whose front door is measured, this one or another."""

    label: str
    path: Path


HERE = Tree(label="front door", path=REPOSITORY)


def asgi(
    name: str,
    settings: Mapping[str, str],
    *,
    app: str = APP,
    tls: bool = False,
    backends: int = USUAL_BACKENDS,
    tree: Tree = HERE,
) -> Spec:
    """The front door as an ASGI app on uvicorn."""

    async def launch(ground: Ground, port: int, scratch: Path) -> Launch:
        return Launch(
            arguments=uvicorn(app, port),
            settings={
                **ground.settings(tls=tls, backends=backends),
                **settings,
                "PYTHONPATH": f"{_bench_in(scratch)}:{tree.path}",
            },
            folder=scratch,
        )

    return Spec(name=name, launch=launch, wires=in_turn)


def worker(
    name: str, settings: Mapping[str, str], *, log_lines: bool = False, tree: Tree = HERE
) -> Spec:
    """The function app in Microsoft's runtime, of which only the connection to the host is missing."""

    async def launch(ground: Ground, port: int, scratch: Path) -> Launch:
        arguments = [sys.executable, "-m", "bench.gateway.worker", "--port", str(port)]
        arguments += ["--app", str(tree.path), *(["--log-lines"] if log_lines else [])]
        own = {"PYTHONPATH": f"{_bench_in(scratch)}:{tree.path}"}
        return Launch(
            arguments=arguments, settings={**ground.settings(), **settings, **own}, folder=scratch
        )

    return Spec(name=name, launch=launch, wires=partial(_numbered, count()))


def _bench_in(scratch: Path) -> Path:
    """A folder that has this tree's `bench` alone, to run with another tree's app."""
    folder = scratch / "path"
    folder.mkdir()
    (folder / "bench").symlink_to(REPOSITORY / "bench")
    return folder


def _numbered(numbers: "count[int]", ask: Ask, tokens: Sequence[str]) -> Iterator[Wire]:
    """Requests as the host forwards them, each with the id of its invocation."""
    mark = f"{'#' * 32}"
    parts = [
        tuple(ask.wire(token, f"x-ms-invocation-id: {mark}").split(mark.encode(), 1))
        for token in tokens
    ]
    while True:
        for before, after in parts:
            yield b"%s%032d%s" % (before, next(numbers), after), ask.expected
