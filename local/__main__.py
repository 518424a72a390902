"""`python -m local`: the stack, tokens for it, its settings as a shell reads them, the demo."""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from local.child import ChildFailed
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import BACKEND_KEY_SETTING, make_plan, read_stack
from local.serving import stop_asked
from local.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    match options.command:
        case "up":
            try:
                return asyncio.run(_up(options))
            except OSError as exc:
                raise SystemExit(f"the stack cannot start: {exc}") from exc
        case "token":
            print(_token(options))
        case "env":
            for line in _exports(options.state):
                print(line)
        case "demo":
            from local.demo import run_demo  # the OpenAI SDK takes half a second to import

            return asyncio.run(run_demo(options.state.resolve(), options.port))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the stack; it stays in the foreground")
    up.add_argument("--port", type=int, default=7071, help="the gateway's; 0: all ports free ones")
    up.add_argument("--backends", type=Path, help="a METER_BACKENDS file instead of the stand-ins")
    up.add_argument("--host", choices=("worker", "func"), default="worker")
    token = commands.add_parser("token", help="print a signed token for the stack")
    token.add_argument("--subject", required=True)
    token.add_argument("--audience", help="default: the stack's")
    token.add_argument("--app", help="client application id")
    token.add_argument("--role", action="append", default=[])
    token.add_argument("--expires-in", type=int, default=3600, metavar="SECONDS")
    token.add_argument("--claim", action="append", default=[], metavar="K=V")
    env = commands.add_parser("env", help="print the settings `python -m meter` needs")
    demo = commands.add_parser("demo", help="run the whole pipeline and check its numbers")
    demo.add_argument("--port", type=int, default=0)
    for command, state in (
        (up, ".local"),
        (token, ".local"),
        (env, ".local"),
        (demo, ".local-demo"),
    ):
        command.add_argument("--state", type=Path, default=Path(state), help="state directory")
    return parser


async def _up(options: argparse.Namespace) -> int:
    plan = make_plan(options.state.resolve(), port=options.port, backends_file=options.backends)
    stack = Stack(plan, host=options.host)
    stopping = stop_asked()
    starting = asyncio.create_task(stack.start())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            print("ready", flush=True)
            print(f"gateway {plan.gateway_url}, state {plan.state}", file=sys.stderr)
            await stopped
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
    except ChildFailed as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        stopped.cancel()
        await stack.stop()
    return 0


def _token(options: argparse.Namespace) -> str:
    stack = read_stack(options.state)
    claims = {}
    for claim in options.claim:
        name, separator, value = claim.partition("=")
        if not separator:
            raise SystemExit(f"--claim takes NAME=VALUE, got {claim!r}")
        claims[name] = value
    return mint(
        KeyRing(options.state),
        issuer=str(stack["issuer"]),
        audience=options.audience or str(stack["audience"]),
        subject=options.subject,
        app_id=options.app,
        roles=options.role,
        expires_in_seconds=options.expires_in,
        claims=claims,
    )


def _exports(state: Path) -> list[str]:
    stack = read_stack(state)
    settings: Mapping[str, str] = {
        "METER_ISSUERS": str(stack["issuer"]),
        "METER_AUDIENCES": str(stack["audience"]),
        "METER_BACKENDS": str(stack["backends_file"]),
        BACKEND_KEY_SETTING: str(stack["backend_key"]),
        "METER_EVENT_HUB": str(stack["event_hub_name"]),
        "EventHubConnection": str(stack["event_hub_connection_string"]),
        "MeterStorage": str(stack["storage_connection_string"]),
        "AzureWebJobsStorage": str(stack["storage_connection_string"]),
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]


if __name__ == "__main__":
    sys.exit(main())
