"""`python -m local`: starts the stack, mints tokens, prints settings for a shell, runs the demo."""

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from local.child import ChildFailed
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import BACKEND_KEY_SETTING, EXPORTS, Plan, make_plan, read_stack
from local.serving import stop_asked
from local.stack import Stack, Unready
from local.state import StateTaken
from meter.commands.console.parser import CommandParser, Commands

PROGRAM = "python -m local"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
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


def _parser() -> CommandParser:
    parser = CommandParser(
        prog=PROGRAM,
        program=PROGRAM,
        description="Runs the meter on this machine, without Azure.",
        examples=("up", "token --subject alice", "up --help"),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = _command(
        commands,
        "up",
        "start the stack in the foreground; Ctrl-C stops it",
        "up",
        "up --port 0 --state /tmp/stack",
        "up --backends backends.json",
    )
    _add_stack_options(up)
    token = _command(
        commands,
        "token",
        "print a signed token for a running stack",
        "token --subject alice",
        "token --subject alice --role Admin --claim oid=1",
        "token --subject alice --expires-in -60",
    )
    _add_claims(token)
    env = _command(
        commands, "env", "print a running stack's settings as export lines for a shell", "env"
    )
    demo = _command(commands, "demo", "make calls through a new stack and check the report", "demo")
    demo.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="N",
        help="port of the front door (default: 0, which picks free ports for all parts)",
    )
    for command, state in (
        (up, ".local"),
        (token, ".local"),
        (env, ".local"),
        (demo, ".local-demo"),
    ):
        command.add_argument(
            "--state",
            type=Path,
            default=Path(state),
            metavar="DIR",
            help=f"state directory of the stack (default: {state})",
        )
    return parser


def _command(commands: Commands, name: str, does: str, *examples: str) -> CommandParser:
    return commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        program=PROGRAM,
        examples=examples,
    )


def _add_stack_options(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--port",
        type=int,
        default=7071,
        metavar="N",
        help="port of the front door (default: 7071); 0 picks free ports for all parts",
    )
    up.add_argument(
        "--backends",
        type=Path,
        metavar="FILE",
        help="a METER_BACKENDS file, to use its backends instead of the stand-ins",
    )
    up.add_argument(
        "--host",
        choices=("worker", "func"),
        default="worker",
        help="Functions host: the local one (worker, the default) or Azure Functions Core Tools",
    )
    up.add_argument(
        "--behind",
        type=Path,
        metavar="PATH",
        help="put Microsoft's proxy, a yarp-front program, before the worker host",
    )


def _add_claims(token: argparse.ArgumentParser) -> None:
    token.add_argument("--subject", required=True, metavar="S", help="the caller, the claim sub")
    token.add_argument("--audience", metavar="A", help="audience (default: the stack's own)")
    token.add_argument("--app", metavar="ID", help="client application id")
    token.add_argument(
        "--role", action="append", default=[], metavar="R", help="app role; may be repeated"
    )
    token.add_argument(
        "--expires-in",
        type=int,
        default=3600,
        metavar="SECONDS",
        help="lifetime (default: 3600); a negative one mints an expired token",
    )
    token.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="K=V",
        help="sets a claim, to a JSON value or else a string; null removes it; may be repeated",
    )


async def _up(options: argparse.Namespace) -> int:
    plan = make_plan(options.state.resolve(), port=options.port, backends_file=options.backends)
    behind: Path | None = options.behind and options.behind.resolve()
    stack = Stack(plan, host=options.host, behind=behind)
    stopping = stop_asked()
    starting = asyncio.create_task(_start(stack))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            await stopped
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
    except (ChildFailed, StateTaken) as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        stopped.cancel()
        await stack.stop()
    return 0


async def _start(stack: Stack) -> None:
    """Start the stack, and say whether calls are answered: `ready`, or `unready` with the reasons."""
    await stack.start()
    try:
        await stack.wait_until_ready()
    except Unready as exc:
        print("unready", flush=True)
        print(f"calls are answered with 503, since settings are invalid:\n{exc}", file=sys.stderr)
    else:
        print("ready", flush=True)
    print(f"gateway {stack.plan.gateway_url}, state {stack.plan.state}", file=sys.stderr)
    print(_example(stack.plan), file=sys.stderr)


def _example(plan: Plan) -> str:
    """A call for a shell in the repository, by a deployment that chats as far as its name tells."""
    names = plan.deployments()
    model = next((name for name in names if "gpt" in name), names[0] if names else "gpt-4o")
    token = f"{sys.executable} -m local token --state {shlex.quote(str(plan.state))} --subject me"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
    return (
        f"deployments: {', '.join(names)}\ntry:\n"
        f"curl -s {plan.gateway_url}/openai/v1/chat/completions "
        f'-H "Authorization: Bearer $({token})" -H "Content-Type: application/json" '
        f"-d {shlex.quote(body)}"
    )


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
        "METER_EXPORT_CONTAINER": EXPORTS,
        "MeterStorage": str(stack["storage_connection_string"]),
        "AzureWebJobsStorage": str(stack["storage_connection_string"]),
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]


if __name__ == "__main__":
    sys.exit(main())
