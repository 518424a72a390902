"""Installs peers where they are in nobody's way: below `.venv/peers`, none of our requirements."""

import asyncio
import venv
from pathlib import Path

from bench.gateway.servers import Unavailable
from bench.servers import REPOSITORY

FOLDER = REPOSITORY / ".venv" / "peers"
INSTALL_SECONDS = 600.0


async def python_packages(name: str, *requirements: str) -> Path:
    """The programs of an environment that has these packages. Raises Unavailable."""
    folder = FOLDER / name
    done = folder / ".installed"
    if not done.exists():
        await asyncio.to_thread(venv.create, folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        await run(*pip, *requirements)
        done.touch()
    return folder / "bin"


async def node_package(name: str, *requirements: str) -> Path:
    """A folder whose node_modules has these packages. Raises Unavailable."""
    folder = FOLDER / name
    done = folder / ".installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["--silent", "--no-fund", "--no-audit", "--no-save"]
        await run("npm", "install", *flags, "--prefix", str(folder), *requirements)
        done.touch()
    return folder


async def run(*command: str, folder: Path = REPOSITORY) -> str:
    """What a command prints. Raises Unavailable if it fails or is not there."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as exc:
        raise Unavailable(f"{command[0]}: {exc.strerror}") from exc
    try:
        output, _ = await asyncio.wait_for(process.communicate(), INSTALL_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"{command[0]} took over {INSTALL_SECONDS:.0f} s") from None
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"{Path(command[0]).name} failed: {lines[-1] if lines else ''}"[:200])
    return output.decode(errors="replace")
