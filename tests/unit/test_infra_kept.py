"""The compiled template and the evaluated deployments that are kept are those of the sources."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.infra.compiler import Compiler, find_compiler, running, version_of
from tests.infra.kept import (
    INFRA,
    REFUSALS,
    REPOSITORY,
    SNAPSHOTS,
    SOURCES,
    TEMPLATE,
    made,
    option_names,
    refused_names,
    source_hashes,
    without_generator,
)

REFUSED = {
    "types": [
        "too short to assign",  # an empty audience
        "'function:aggregator' | 'function:outbox' | 'http'",
        'The property "key" is not allowed',
        "'api-key' | 'managed-identity'",
        "minimum allowable value is 1",
        "maximum allowable value is 100",
        'The property "gpt-4o" expected a value of type "string"',
        'The property "resourceGroup" is not allowed',
    ],
    "checks": [
        "namePrefix must be lower-case letters and digits, the first a letter; got Me-ter",
        "backend plain: url must begin with https://",
        "backend plain: needs at least one deployment",
        "backend without-vault: auth.setting must be a name in keyVaultReferences",
        "backend Plain: url must hold no sign-in and no query",
        "backend Plain: gpt 4o must be 1 to 64 letters, digits and ._-",
        "backends: plain is the name of several",
        "audiences: each must be one text without commas",
        "requiredRoles: each must be one text without commas",
        "analystsGroupId must be an object id; got analysts",
        "operatorsGroupId must be an object id",
        "MeterStorage would be a connection by key",
        "with METER_LOG_LEVEL above INFO the lines that alerts read are not written",
        "meter_issuers has a parameter of its own",
        "OTHER holds a secret",
        "Flex Consumption refuses WEBSITE_RUN_FROM_PACKAGE",
        "WEU_KEY must be https://VAULT.vault.azure.net/secrets/NAME",
        "keyVaultReferences: EventHubConnection is set by the deployment",
        "keyVaultReferences: METER_AUDIENCES is set by the deployment",
        "allowedAddresses, existingNetwork and a private gateway need vnetEnabled",
        "zoneRedundant needs dataStorageSku Standard_ZRS or Standard_GZRS",
    ],
    "network": [
        "got 1meter",
        "10.0.0.7 is no public IPv4 address",
        "172.16.0.7 is no public IPv4 address",
        "laptop.contoso.com is no public IPv4 address",
        "203.0.113.999 is no public IPv4 address",
        "203.0.113.0/31 is no public IPv4 address",
        "128.0.0.0/0 is no public IPv4 address",
        "separateAggregator needs aggregatorSubnetId",
    ],
}


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    path = find_compiler()
    if path is None:
        pytest.skip("no Bicep compiler here; the digests say that what is kept is fresh")
    with running(path) as found:
        if version_of(found.version) < version_of(json.loads(SOURCES.read_text("utf-8"))["bicep"]):
            pytest.skip(f"Bicep {found.version} is older than what made the files, and knows less")
        yield found


def test_what_is_kept_was_made_of_these_sources() -> None:
    """After a change of infra/ or of an option: `make infra`."""
    assert json.loads(SOURCES.read_text("utf-8"))["sources"] == source_hashes()


def test_there_is_one_snapshot_per_option() -> None:
    """None is left over, and none is missing."""
    kept = {path.stem for path in SNAPSHOTS.glob("*.json")}

    assert kept == {*option_names(), REFUSALS.stem, SOURCES.stem}


def test_the_compiler_still_says_what_is_kept(compiler: Compiler) -> None:
    """It also refuses every warning, its linter's included."""
    files = made(compiler)
    differing = [
        path.name
        for path, text in files.items()
        if without_generator(text) != without_generator(path.read_text("utf-8"))
    ]

    assert differing == []


def test_the_sources_are_as_the_compiler_formats_them(compiler: Compiler) -> None:
    """One form, so that a difference is a change."""
    sources = sorted(INFRA.rglob("*.bicep"))

    assert [p.name for p in sources if compiler.formatted(p) != p.read_text("utf-8")] == []


@pytest.mark.parametrize(
    ("case", "reason"), [(case, each) for case, reasons in REFUSED.items() for each in reasons]
)
def test_values_that_would_fail_or_open_something_are_refused(case: str, reason: str) -> None:
    """By their type with the line, or with all reasons at once before anything is made."""
    assert reason in json.loads(REFUSALS.read_text("utf-8"))[case]


def test_every_set_of_refused_values_has_its_reasons() -> None:
    """Otherwise it would show nothing."""
    assert refused_names() == sorted(REFUSED)


def test_every_rule_of_the_linter_is_an_error() -> None:
    """One that is off would have to say why, in infra/bicepconfig.json and here."""
    lines = (INFRA / "bicepconfig.json").read_text("utf-8").splitlines()
    config = json.loads("\n".join(each for each in lines if not each.strip().startswith("//")))
    rules = config["analyzers"]["core"]["rules"]
    levels = {name: rule["level"] for name, rule in rules.items()}
    unexplained = [
        line
        for before, line in pairwise(lines)
        if '"level": "off"' in line and not before.strip().startswith("// Off: ")
    ]

    assert [n for n, level in levels.items() if level != "error"] == ["use-description-vars"]
    assert unexplained == []
    assert len(rules) > 50


def test_the_template_offers_every_parameter() -> None:
    """What the Deploy to Azure button asks for is what main.bicep takes."""
    template = json.loads(TEMPLATE.read_text("utf-8"))
    shipped = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]

    assert shipped.keys() <= template["parameters"].keys()
    assert [n for n, p in template["parameters"].items() if "metadata" not in p] == []
    assert Path(TEMPLATE).stat().st_size < 4 * 1024 * 1024  # what Azure takes


def test_the_guide_names_parameters_that_exist() -> None:
    """And the shipped file sets no other."""
    template = json.loads(TEMPLATE.read_text("utf-8"))
    guide = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")
    section = guide.partition("## 3. Parameters")[2].partition("### `sub` or `oid`")[0]
    named = {
        name
        for cell in re.findall(r"^\| ([^|]*`[^|]*) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)[^`]*`", cell)
    }

    assert named - template["parameters"].keys() == set()
    assert len(named) > 20


def test_the_compiler_is_the_named_one_else_that_on_the_path_else_the_azure_clis(
    tmp_path: Path,
) -> None:
    """Without any, the digests alone are compared."""
    of_cli, on_path = tmp_path / ".azure" / "bin" / "bicep", tmp_path / "tools" / "bicep"
    home = {"HOME": str(tmp_path), "PATH": str(on_path.parent)}
    nowhere = find_compiler(home)
    for file in (of_cli, on_path):
        file.parent.mkdir(parents=True)
        file.touch(0o755)

    assert nowhere is None
    assert find_compiler(home | {"PATH": ""}) == of_cli
    assert find_compiler(home) == on_path
    assert find_compiler(home | {"BICEP": "/opt/bicep"}) == Path("/opt/bicep")
