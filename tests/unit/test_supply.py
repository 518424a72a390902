"""What others' code comes in: pinned, by hash or commit, under known licences."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

from local.package import core_tools
from local.sbom import VENDORED, add_vendored, licences
from meter import __version__
from tests.support.package import FUNCIGNORE
from tests.support.running import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
PERMISSIVE = (
    "MIT",
    "BSD",
    "Apache",
    "PSF",
    "Python Software Foundation",
    "MPL-2.0",
    "Mozilla Public License 2.0",
)


def locked() -> dict[str, str]:
    """The deployed packages' lines, with their hashes, by name."""
    text = (REPOSITORY / "requirements.txt").read_text().replace("\\\n", "")
    return {line.partition("==")[0]: line for line in text.splitlines()}


def test_every_deployed_package_is_locked_by_hash() -> None:
    """pip then takes nothing else, and refuses a package without one."""
    lines = locked()

    assert {"azure-functions", "pyjwt", "cryptography"} <= set(lines)
    assert [
        line
        for line in lines.values()
        if not re.fullmatch(r"[a-z0-9-]+==[0-9.]+( +--hash=sha256:[0-9a-f]{64})+ *", line)
    ] == []


def test_every_deployed_package_is_free_to_use() -> None:
    """Permissive, or certifi's MPL, which asks for changes to its own files alone."""
    found = {name: _licence(name) for name in locked()}

    assert [name for name, licence in found.items() if not licence.startswith(PERMISSIVE)] == []


def _licence(name: str) -> str:
    told = metadata(name)
    classified = [
        value.rpartition(":: ")[2]
        for value in told.get_all("Classifier", [])
        if value.startswith("License ::")
    ]
    return str(told.get("License-Expression") or ", ".join(classified) or told.get("License"))


def test_the_vendored_libraries_are_in_the_bill_of_materials() -> None:
    """In the version that lies here, and as what the app depends on."""
    document: dict[str, Any] = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"name": "a", "version": "1", "licenses": [{"expression": "MIT"}]}],
        "dependencies": [{"ref": "root", "dependsOn": ["z"]}],
    }
    add_vendored(document)
    decision = (REPOSITORY / "docs/decisions/0035-the-report-page.md").read_text()

    assert document["dependencies"][0] == {"ref": "root", "dependsOn": ["uplot", "z"]}
    assert licences(document) == [("a", "1", "MIT"), ("uplot", VENDORED[0]["version"], "MIT")]
    assert f"uPlot {VENDORED[0]['version']} (MIT" in decision


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_pinned_bounded_and_unprivileged(workflow: Path) -> None:
    """Actions by full commit, a time limit for each job, and no right but to read."""
    text = workflow.read_text()
    used = re.findall(r"uses: (\S+)", text)
    targets = re.findall(r"run: make (.+)", text)
    makefile = (REPOSITORY / "Makefile").read_text()

    assert used
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each)] == []
    assert text.count("timeout-minutes:") == text.count("runs-on:")
    assert re.findall(r"^permissions:\n((?:  .+\n)+)", text, re.M) == ["  contents: read\n"]
    assert {"check", "test"} <= {target for line in targets for target in line.split()}
    for line in targets:
        for target in line.split():
            assert f"\n{target}: " in makefile


def test_updates_are_proposed_for_each_kind_of_package() -> None:
    """pip, npm and the workflows' actions."""
    text = (REPOSITORY / ".github/dependabot.yml").read_text()

    assert set(re.findall(r"package-ecosystem: (\S+)", text)) == {"pip", "npm", "github-actions"}


def test_the_container_holds_what_is_deployed() -> None:
    """The front door's code and packages, and no file of a developer's folder."""
    text = (REPOSITORY / "Containerfile").read_text()
    copied = {line.split()[1] for line in text.splitlines() if re.match(r"COPY \w", line)}
    is_ignored = core_tools(FUNCIGNORE)

    assert copied == {"requirements.txt", "meter"}
    assert not is_ignored("requirements.txt")
    assert not is_ignored("meter/bootstrap.py")
    assert "\nUSER 10001\n" in text


def test_the_changelog_has_the_version() -> None:
    """With its date, and what to do when upgrading."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()

    assert version == __version__
    assert re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changelog, re.M)
    assert "### Upgrading" in changelog
