"""Installs the clients from npm into a folder of their own, in the versions of package-lock.json."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from local.clients.programs import HERE, SCRIPTS

INSTALL_SECONDS = 900


class NotInstalled(Exception):
    """npm did not install the clients; the message says why."""


def install(folder: Path) -> None:
    """Install all of them; at once where the folder has them. Raises NotInstalled."""
    for name in ("package.json", "package-lock.json", *SCRIPTS):
        shutil.copy(HERE / name, folder / name)
    done = folder / "installed.json"
    lock = (HERE / "package-lock.json").read_text()
    if done.exists() and done.read_text() == lock:
        return
    # Not `npm ci`: it wants OpenCode's programs for every platform, which some registries lack.
    command = ["npm", "install", "--no-fund", "--no-audit", "--loglevel", "error"]
    try:
        run = subprocess.run(
            command, cwd=folder, timeout=INSTALL_SECONDS, text=True, capture_output=True
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotInstalled(f"npm install: {exc}") from exc
    if run.returncode:
        raise NotInstalled(f"npm install ended with {run.returncode}:\n{run.stderr[-2000:]}")
    done.write_text(lock)


def version_of(folder: Path, package: str) -> str | None:
    """The installed version of a package; None where it is missing."""
    try:
        document = json.loads((folder / "node_modules" / package / "package.json").read_text())
    except (OSError, ValueError):
        return None
    return str(document["version"])


def isolation() -> list[str]:
    """The words before a command that leave it loopback alone; none where Linux does not allow that."""
    words = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
    words += ['ip link set lo up && exec "$0" "$@"']
    try:
        run = subprocess.run([*words, "true"], capture_output=True, timeout=10, env=os.environ)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if run.returncode else words
