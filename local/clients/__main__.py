"""`python -m local.clients`: installs the clients, runs them against a stack, prints a table.

They are real programs from npm in pinned versions; nobody signs in anywhere. Where Linux allows it, they
and the stack run in a network namespace that has loopback alone.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from local.child import ChildFailed
from local.clients.cases import DEPLOYMENT, Ask, Case, all_cases
from local.clients.counting import Counted, count
from local.clients.install import NotInstalled, install, isolation, version_of
from local.clients.programs import Scene, opencode_provider
from local.clients.running import MOST_SHOWN, NOT_FOUND, RUN_SECONDS, Seen, run_client
from local.clients.writing import Line, table, write_page
from local.issuer.keys import KeyRing
from local.issuer.tokens import DEFAULT_APP_ID, mint
from local.plan import AUDIENCE, Plan, make_plan, without_settings
from local.stack import Stack, Unready
from local.stand_ins import add_fault, clear_faults, urls_of

OTHER_APP_ID = "0c1d2e3f-5d1f-4c1e-8c52-9f0a4b8e4a5b"
TOTAL_SECONDS = 2_400.0  # for all runs together
WAIT_SECONDS = 2
ANSWER_SHOWN = 40  # characters; the stand-ins' answers are long and all alike


def main() -> int:
    """Install and run; 0 when every client that runs here did as expected."""
    options = _parser().parse_args()
    if options.inside is not None:
        cases = [case for case in all_cases() if options.only.lower() in case.program.name.lower()]
        is_alone = options.inside == "alone"
        return asyncio.run(_run(cases, options.packages, options.out, is_alone=is_alone))
    with ExitStack() as stack:
        packages = options.packages or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="clients-"))
        )
        packages.mkdir(parents=True, exist_ok=True)
        print(f"installing the clients into {packages} ...", flush=True)
        try:
            install(packages)
        except NotInstalled as exc:
            print(exc, file=sys.stderr)
            return 1
        words = isolation()
        command = [*words, sys.executable, "-m", "local.clients", "--packages", str(packages)]
        command += ["--inside", "alone" if words else "here", "--only", options.only]
        command += ["--out", str(options.out.resolve())] if options.out else []
        return subprocess.run(command).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.clients",
        description="Run coding agents and SDKs from npm against the local stack.",
    )
    parser.add_argument(
        "--packages",
        type=Path,
        metavar="DIR",
        help="install into this folder and keep it (default: a temporary one)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the table to this file, as Markdown"
    )
    parser.add_argument(
        "--only", default="", metavar="NAME", help="run only the clients with this in their names"
    )
    parser.add_argument("--inside", choices=("alone", "here"), help=argparse.SUPPRESS)
    return parser


@dataclass(frozen=True, slots=True)
class _Ended:
    """A case and what came of it; nothing where the client does not run here."""

    case: Case
    subject: str
    seen: Seen | None
    reason: str


async def _run(cases: Sequence[Case], packages: Path, out: Path | None, *, is_alone: bool) -> int:
    homes = Path(tempfile.mkdtemp(prefix="clients-homes-"))
    plan = _plan(homes / "stack")
    stack = Stack(plan)
    try:
        await stack.start()
        await stack.wait_until_ready()
        deadline = time.monotonic() + TOTAL_SECONDS
        ended = [await _one(case, plan, homes, packages, deadline) for case in cases]
        counted = await count(plan)
    except (ChildFailed, Unready) as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        await stack.stop()
        shutil.rmtree(homes, ignore_errors=True)
    lines = [_line(each, counted, packages) for each in ended]
    print(table(lines))
    if out is not None:
        write_page(out, lines, is_alone=is_alone)
    wrong = sum(line.ok == "no" for line in lines)
    missing = sum(each.seen is None for each in ended)
    print(
        f"clients: {len(lines) - missing} runs, {wrong} not as expected, {missing} not possible here"
    )
    return 1 if wrong else 0


def _plan(state: Path) -> Plan:
    """A stack that lets one app in and publishes OpenCode's configuration."""
    plan = make_plan(state, port=0, environment=without_settings(os.environ), outbox_seconds=2)
    auth = {"command": [str(state.parent / "token")], "env": "GATEWAY_TOKEN"}
    document = {"auth": auth, "config": opencode_provider(plan.gateway_url, DEPLOYMENT)}
    settings = {"METER_ALLOWED_APPS": DEFAULT_APP_ID, "METER_OPENCODE": json.dumps(document)}
    return replace(plan, environment={**plan.environment, **settings})


async def _one(case: Case, plan: Plan, homes: Path, packages: Path, deadline: float) -> _Ended:
    subject = f"{case.program.name} {case.ask}"
    home = homes / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    scene = Scene(
        url=plan.gateway_url,
        token_command=_token_command(homes, plan, case, subject),
        deployment=case.deployment,
        home=home,
        packages=packages,
    )
    await _throttle(plan, case.ask is Ask.WAIT)
    seconds = max(0.0, min(RUN_SECONDS, deadline - time.monotonic()))
    seen = await run_client(case.program.set_up(scene), home, seconds=seconds)
    print(f"  {subject}: {seen.seconds} s", flush=True)
    return _Ended(case, subject, None if seen.code == NOT_FOUND else seen, seen.output.strip())


def _token_command(homes: Path, plan: Plan, case: Case, subject: str) -> Path:
    """A program that prints the token of a case, as `az account get-access-token` would."""
    token = mint(
        KeyRing(plan.state),
        issuer=plan.issuer,
        audience="api://another" if case.ask is Ask.AUDIENCE else AUDIENCE,
        subject=subject,
        app_id=OTHER_APP_ID if case.ask is Ask.APP else None,
    )
    command = homes / "token"
    command.write_text(f"#!/bin/sh\necho {token}\n")
    command.chmod(0o700)
    return command


async def _throttle(plan: Plan, is_wanted: bool) -> None:
    """Let both backends throttle the next call, or none."""
    await clear_faults(urls_of(plan))
    if is_wanted:
        fault = {"status": 429, "headers": {"retry-after": str(WAIT_SECONDS)}}
        await add_fault(urls_of(plan), fault)


def _line(ended: _Ended, counted: Mapping[str, Counted], packages: Path) -> Line:
    case, seen = ended.case, ended.seen
    found = counted.get(ended.subject, Counted())
    version = version_of(packages, case.program.package) or "not installed"
    if seen is None:
        why = f"does not run here: {ended.reason}"
        return Line(case=case, version=version, shown=why, seconds="", events="")
    is_ended = seen.code is not None and (seen.code == 0 or not case.is_answered)
    is_right = found.is_true and (found.served > 0) == case.is_answered
    ok = is_ended and is_right and case.is_shown(seen.output)
    return Line(
        case=case,
        version=version,
        shown=seen.shown(case.shows, most=ANSWER_SHOWN if case.is_answered else MOST_SHOWN),
        seconds=f"{seen.seconds:.0f}",
        events=str(found),
        ok="yes" if ok else "no",
    )


if __name__ == "__main__":
    sys.exit(main())
