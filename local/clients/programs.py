"""How each client is set up for the gateway: as docs/calling.md shows, in a home of its own.

Nothing of the clients is changed. What would ask other hosts for news, models or updates is off.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROMPT = "Say hi."
# The local stack's answers are as long as they may be.
OUTPUT_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a run of a client has: the gateway, a command that prints a token, a deployment, a home."""

    url: str
    token_command: Path
    deployment: str
    home: Path
    packages: Path

    def program(self, name: str) -> str:
        """The path of an installed program."""
        return str(self.packages / "node_modules" / ".bin" / name)

    def script(self, name: str) -> str:
        """The path of a script of ours, beside the packages that it imports."""
        return str(self.packages / name)

    def write(self, name: str, document: object) -> None:
        """Write a file into the home, as JSON unless it is text."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Command lines to run one after the other, and what is in the environment beside PATH and HOME."""

    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A client: its name, its npm package, and how it is set up."""

    name: str
    package: str
    set_up: Callable[[Scene], Run]


def _codex(scene: Scene) -> Run:
    scene.write(
        ".codex/config.toml",
        f"""
model = "{scene.deployment}"
model_provider = "gateway"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.gateway]
name = "Gateway"
base_url = "{scene.url}/openai/v1"
wire_api = "responses"

[model_providers.gateway.auth]
command = "{scene.token_command}"
args = []
timeout_ms = 30000
refresh_interval_ms = 1800000
""",
    )
    return Run(commands=[[scene.program("codex"), "exec", "--skip-git-repo-check", PROMPT]])


# Without the last it waits for a package of its own from the registry.
_OPENCODE_IS_QUIET = {
    "OPENCODE_DISABLE_AUTOUPDATE": "true",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "true",
    "npm_config_offline": "true",
    "OPENCODE_DISABLE_MODELS_FETCH": "true",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "true",
}


def opencode_provider(url: str, *deployments: str) -> Mapping[str, object]:
    """OpenCode's configuration of a provider called `gateway`, whose token is in GATEWAY_TOKEN."""
    limit = {"context": 128_000, "output": OUTPUT_TOKENS}
    return {
        "provider": {
            "gateway": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": f"{url}/openai/v1", "apiKey": "{env:GATEWAY_TOKEN}"},
                "models": {name: {"limit": limit} for name in deployments},
            }
        }
    }


def _opencode(scene: Scene) -> Run:
    scene.write("work/opencode.json", opencode_provider(scene.url, scene.deployment))
    command = f'GATEWAY_TOKEN=$("{scene.token_command}") exec "$0" "$@"'
    run = ["sh", "-c", command, *_opencode_run(scene)]
    return Run(commands=[run], environment=_OPENCODE_IS_QUIET)


def _opencode_published(scene: Scene) -> Run:
    login = [scene.program("opencode"), "auth", "login", scene.url]
    return Run(commands=[login, _opencode_run(scene)], environment=_OPENCODE_IS_QUIET)


def _opencode_run(scene: Scene) -> list[str]:
    model = f"gateway/{scene.deployment}"
    return [scene.program("opencode"), "run", "--model", model, "--title", "t", PROMPT]


def _copilot(scene: Scene) -> Run:
    environment = {
        "COPILOT_OFFLINE": "true",
        "COPILOT_AUTO_UPDATE": "false",
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_BASE_URL": f"{scene.url}/openai/v1",
        "COPILOT_PROVIDER_API_KEY_COMMAND": str(scene.token_command),
        "COPILOT_PROVIDER_WIRE_API": "responses",
        "COPILOT_MODEL": scene.deployment,
    }
    return Run(commands=[[scene.program("copilot"), "-p", PROMPT]], environment=environment)


def _claude(scene: Scene) -> Run:
    scene.write(".claude/settings.json", {"apiKeyHelper": str(scene.token_command)})
    environment = {
        "ANTHROPIC_BASE_URL": f"{scene.url}/anthropic",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }
    run = [scene.program("claude"), "-p", PROMPT, "--model", "claude-sonnet-4-5"]
    return Run(commands=[run], environment=environment)


def _script(name: str) -> Callable[[Scene], Run]:
    def set_up(scene: Scene) -> Run:
        words = [scene.url, str(scene.token_command), scene.deployment]
        return Run(commands=[["node", scene.script(name), *words]])

    return set_up


SCRIPTS = ("langchain.mjs", "ai_sdk.mjs")
CODEX = Program(name="Codex", package="@openai/codex", set_up=_codex)
OPENCODE = Program(name="OpenCode", package="opencode-ai", set_up=_opencode)
PUBLISHED = Program(
    name="OpenCode, published configuration", package="opencode-ai", set_up=_opencode_published
)
COPILOT = Program(name="GitHub Copilot CLI", package="@github/copilot", set_up=_copilot)
CLAUDE = Program(name="Claude Code", package="@anthropic-ai/claude-code", set_up=_claude)
LANGCHAIN = Program(
    name="LangChain.js", package="@langchain/openai", set_up=_script("langchain.mjs")
)
AI_SDK = Program(name="AI SDK", package="ai", set_up=_script("ai_sdk.mjs"))
