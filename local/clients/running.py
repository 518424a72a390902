"""Runs one client in a home of its own: bounded in time, and all of its processes end with it."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.child import die_with_parent
from local.clients.programs import Run

RUN_SECONDS = 180.0
MOST_SHOWN = 140
NOT_FOUND = 127  # as a shell says of a program that it cannot start
# A host that is not this one is not reached, where the network allows it at all.
NOWHERE = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
_PORT = re.compile(r"http://127\.0\.0\.1:\d+")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TELLING = re.compile(r"error|fail|issue|denied|unauthori|forbidden|\b4\d\d\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of a run: its output, its exit code (None: it did not end in time), its seconds."""

    output: str
    code: int | None
    seconds: float

    def shown(self, wanted: str, *, most: int = MOST_SHOWN) -> str:
        """The last line with what is wanted, else the last with an error, else the last of all."""
        if self.code is None:
            return "nothing more until it was ended"
        lines = [" ".join(line.split()) for line in self.output.splitlines() if line.strip()]
        wants = [re.compile(wanted, re.IGNORECASE), _TELLING, re.compile("")]
        found = [line for pattern in wants for line in reversed(lines) if pattern.search(line)]
        line = _PORT.sub("GATEWAY", found[0]) if found else "nothing"
        return line if len(line) <= most else f"{line[: most - 3]}..."


async def run_client(run: Run, home: Path, *, seconds: float) -> Seen:
    """Run the commands one after the other, within that time in all; the code is the last one's."""
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1,localhost",
        **NOWHERE,
        **run.environment,
    }
    begun = time.monotonic()
    output, code = "", None
    for command in run.commands:
        more, code = await _output(command, work, environment, begun + seconds - time.monotonic())
        output += more
        if code != 0:
            break
    return Seen(
        output=_ESCAPES.sub("", output), code=code, seconds=round(time.monotonic() - begun, 1)
    )


async def _output(
    command: Sequence[str], work: Path, environment: Mapping[str, str], seconds: float
) -> tuple[str, int | None]:
    log = work.parent / "output.log"
    with log.open("wb") as file:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=work,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as exc:
            return exc.strerror or str(exc), NOT_FOUND
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), seconds)
        code = process.returncode
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return log.read_text(errors="replace"), code
