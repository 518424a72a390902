"""LiteLLM's proxy: checks its master key, balances over the backends, counts. No database."""

import json
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

from bench.gateway.content import Ask, Deployment
from bench.gateway.ground import KEY, Ground
from bench.gateway.load import Wire
from bench.gateway.servers import Launch, Spec
from bench.peers.install import python_packages

_MASTER_KEY = "sk-bench"


def litellm() -> Spec:
    """LiteLLM as a gateway to measure."""

    async def launch(ground: Ground, port: int, scratch: Path) -> Launch:
        programs = await python_packages("litellm", "litellm[proxy]")
        config = scratch / "litellm.yaml"
        config.write_text(json.dumps(_config(ground)))  # JSON is YAML
        arguments = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        own = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "PYTHONPATH": ""}
        return Launch(
            arguments=[*arguments, "--port", str(port), "--telemetry", "False"],
            settings=own,
            folder=scratch,
        )

    return Spec(name="LiteLLM", launch=launch, may_change=True, wires=_wires)


def _config(ground: Ground) -> dict[str, object]:
    models = [
        {
            "model_name": each.value,
            "litellm_params": {
                "model": f"azure/{each.value}",
                "api_base": url,
                "api_key": KEY,
                "api_version": "2024-10-21",
            },
        }
        for each in Deployment
        for url in ground.urls()
    ]
    return {"model_list": models, "general_settings": {"master_key": _MASTER_KEY}}


def _wires(ask: Ask, _tokens: Sequence[str]) -> Iterator[Wire]:
    return repeat((ask.wire(_MASTER_KEY), ask.expected))
