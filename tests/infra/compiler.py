"""Microsoft's Bicep compiler, where there is one: it compiles, lints, formats and evaluates."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anthonycmartin.bicep_rpc_client import (
    BicepClient,
    BicepClientConfiguration,
    BicepClientFactory,
    CompileParamsRequest,
    CompileRequest,
    FormatRequest,
    GetSnapshotRequest,
    RpcError,
    SnapshotMetadata,
)

VARIABLE = "BICEP"
# Where the resources would be. The ids are nobody's.
PLACE = SnapshotMetadata(
    tenant_id="11111111-1111-1111-1111-111111111111",
    subscription_id="22222222-2222-2222-2222-222222222222",
    resource_group="rg-meter",
    location="westeurope",
    deployment_name="main",
)


def find_compiler(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The compiler that $BICEP names, else the one on the path, else the Azure CLI's."""
    if named := environment.get(VARIABLE):
        return Path(named)
    if found := shutil.which("bicep", path=environment.get("PATH")):
        return Path(found)
    folder = environment.get("AZURE_CONFIG_DIR") or Path(environment.get("HOME", "/"), ".azure")
    of_cli = Path(folder, "bin", "bicep")
    return of_cli if of_cli.is_file() else None


def version_of(text: str) -> tuple[int, ...]:
    """A version as numbers, to compare."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@contextmanager
def running(path: Path) -> Iterator["Compiler"]:
    """One process of the compiler, for many questions."""
    client = BicepClientFactory().initialize(BicepClientConfiguration(existing_cli_path=path))
    try:
        yield Compiler(client)
    finally:
        client.close()


class Refused(Exception):
    """The compiler refuses parameters; the text is its reasons."""


class Compiler:
    """The answers of one process."""

    def __init__(self, client: BicepClient) -> None:
        self._client = client

    @property
    def version(self) -> str:
        """Such as 0.49.2."""
        return self._client.get_version()

    def template(self, path: Path) -> str:
        """The ARM template. Raises Refused at the first warning, the linter's included."""
        answer = self._client.compile(CompileRequest(path))
        if answer.diagnostics or answer.contents is None:
            raise Refused(_text(answer.diagnostics))
        return answer.contents

    def formatted(self, path: Path) -> str:
        """The file as the compiler would write it."""
        return self._client.format(FormatRequest(path)).contents

    def snapshot(self, parameters: Path) -> dict[str, Any]:
        """The evaluated deployment of a file of parameters. Raises Refused."""
        try:
            answer = self._client.get_snapshot(GetSnapshotRequest(parameters, PLACE))
        except RpcError as exc:
            compiled = self._client.compile_params(CompileParamsRequest(parameters))
            raise Refused(_text(compiled.diagnostics) or exc.message) from exc
        found: dict[str, Any] = json.loads(answer.snapshot)
        return found


def _text(diagnostics: tuple[dict[str, Any], ...]) -> str:
    """What is wrong in which file, without the folder that is this machine's."""
    return "\n".join(
        f"{Path(each['source']).name}: {each['code']}: {each['message']}" for each in diagnostics
    )
