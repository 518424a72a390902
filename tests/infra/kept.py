"""What is kept of the compiler's answers, and of which sources it was made."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.infra.compiler import Compiler, Refused

REPOSITORY = Path(__file__).resolve().parents[2]
INFRA = REPOSITORY / "infra"
MAIN = INFRA / "main.bicep"
TEMPLATE = INFRA / "azuredeploy.json"
OPTIONS = Path(__file__).with_name("options")
SNAPSHOTS = Path(__file__).with_name("snapshots")
REFUSED = Path(__file__).with_name("refused")
REFUSALS = SNAPSHOTS / "refusals.json"
SOURCES = SNAPSHOTS / "sources.json"


def option_names() -> list[str]:
    """The sets of parameters that are evaluated."""
    return sorted(path.stem for path in OPTIONS.glob("*.bicepparam"))


def refused_names() -> list[str]:
    """The sets of parameters that must be refused."""
    return sorted(path.stem for path in REFUSED.glob("*.bicepparam"))


def source_paths() -> list[Path]:
    """The files that decide what the compiler answers."""
    of_infra = [p for p in INFRA.rglob("*") if p.is_file() and p != TEMPLATE]
    return sorted([*of_infra, *OPTIONS.glob("*"), *REFUSED.glob("*")])


def source_hashes() -> dict[str, str]:
    """A digest per source, by its path in the repository."""
    return {
        path.relative_to(REPOSITORY).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in source_paths()
    }


def document(value: object) -> str:
    """JSON as it is kept: the compiler's order of members is not always the same."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def made(compiler: Compiler) -> dict[Path, str]:
    """Everything that is kept, made anew."""
    files = {
        SNAPSHOTS / f"{name}.json": document(compiler.snapshot(OPTIONS / f"{name}.bicepparam"))
        for name in option_names()
    }
    files[REFUSALS] = document({name: _refusal(compiler, name) for name in refused_names()})
    # In the compiler's own order, which the portal shows parameters in.
    files[TEMPLATE] = compiler.template(MAIN).rstrip("\n") + "\n"
    return files


def _refusal(compiler: Compiler, name: str) -> str:
    try:
        compiler.snapshot(REFUSED / f"{name}.bicepparam")
    except Refused as exc:
        return str(exc)
    return "accepted"


def without_generator(template: str) -> object:
    """A template without the compiler's marks, which change with its version alone."""
    return _cleared(json.loads(template))


def _cleared(value: Any) -> Any:
    match value:
        case dict():
            return {k: _cleared(v) for k, v in value.items() if k != "_generator"}
        case list():
            return [_cleared(each) for each in value]
        case _:
            return value
