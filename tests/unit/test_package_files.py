"""What is deployed: the app's own files, whatever else lies in the folder."""

from collections.abc import Callable
from importlib.metadata import files

import pytest

from local.package import IsIgnored, core_tools, deployed
from tests.support.package import FUNCIGNORE, git
from tests.support.running import REPOSITORY

DEPLOYED = [
    "function_app.py",
    "host.json",
    "meter/__init__.py",
    "meter/gateway/answer/sse.py",
    "meter/py.typed",
    "prices/contract.csv",
    "requirements.txt",
]
KEPT_BACK = [
    ".azure/meter-prod/.env",
    ".env",
    ".env.production",
    ".github/workflows/ci.yml",
    ".local/stack.json",
    ".python_packages/lib/site-packages/x.py",
    ".venv/lib/python3.13/site-packages/meter/x.py",
    ".vscode/settings.json",
    "CHANGELOG.md",
    "Makefile",
    "app-roles.json",
    "azure.yaml",
    "backends.json",
    "bench/results.md",
    "certificate.pem",
    "docs/operations.md",
    "fixed.json",
    "infra/main.bicep",
    "key.pfx",
    "local.settings.json",
    "local/stack.py",
    "meters/secret.py",
    "my_meter/secret.py",
    "node_modules/azurite/index.js",
    "old/meter/secret.py",
    "package.json",
    "prices.csv",
    "pyproject.toml",
    "requirements-dev.txt",
    "tests/unit/test_infra.py",
    "usage.csv",
    "venv/bin/python",
]
RULES = [pytest.param(core_tools, id="Core Tools"), pytest.param(git, id="azd")]


@pytest.mark.parametrize("rules", RULES)
def test_the_app_is_deployed_and_nothing_else(rules: Callable[[str], IsIgnored]) -> None:
    """A list of what goes along: a secret of a kind that nobody thought of stays behind."""
    assert deployed(DEPLOYED + KEPT_BACK, rules(FUNCIGNORE)) == DEPLOYED


def test_git_keeps_the_secrets_of_a_deployment_out_of_commits() -> None:
    """What azd, the guide's own steps and signing leave in the folder."""
    ignored = git((REPOSITORY / ".gitignore").read_text())
    secrets = [".azure/meter-prod/.env", ".env", "app-roles.json", "key.pem", "venv/bin/python"]

    assert deployed(secrets, ignored) == []


def test_the_locked_packages_stay_small() -> None:
    """By what pip noted of each: a heavy package is seen here before a deployment is made."""
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line]
    sizes = {
        name: sum(file.size or 0 for file in files(name) or () if file.suffix != ".pyc")
        for name in names
    }

    assert "azure-storage-blob" in names
    assert [name for name, size in sizes.items() if not size] == []
    assert sum(sizes.values()) < 60_000_000
