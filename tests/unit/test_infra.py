"""The deployment of every option, evaluated, keeps the rules on keys, roles and settings."""

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meter.config.backends.read import load_known_backends
from meter.config.environment import (
    load_publish_settings,
    load_reconcile_settings,
    load_settings,
    load_storage_settings,
)
from meter.config.exports import load_export_settings
from tests.infra.evaluated import Assignment, Deployment, deployment, short_name
from tests.infra.expressions import STORAGE_SUFFIXES
from tests.infra.kept import SNAPSHOTS, TEMPLATE, option_names

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")
OPTIONS = option_names()
BACKENDS = {"shipped": 2, "groups": 2, "forty-backends": 40}
TWO_APPS = {"addresses", "two-apps"}

ACCOUNT = "Microsoft.Storage/storageAccounts"
NAMESPACE = "Microsoft.EventHub/namespaces"
APP = "Microsoft.Web/sites"

HARDENING = [
    (ACCOUNT, "allowSharedKeyAccess", False),
    (ACCOUNT, "allowBlobPublicAccess", False),
    (ACCOUNT, "allowCrossTenantReplication", False),
    (ACCOUNT, "minimumTlsVersion", "TLS1_2"),
    (ACCOUNT, "supportsHttpsTrafficOnly", True),
    (f"{ACCOUNT}/blobServices/containers", "publicAccess", "None"),
    (NAMESPACE, "disableLocalAuth", True),
    (NAMESPACE, "minimumTlsVersion", "1.2"),
    ("Microsoft.Insights/components", "DisableLocalAuth", True),
    ("Microsoft.OperationalInsights/workspaces", "features.disableLocalAuth", True),
    (APP, "httpsOnly", True),
    (APP, "siteConfig.minTlsVersion", "1.2"),
    (APP, "siteConfig.scmMinTlsVersion", "1.2"),
    (APP, "functionsRuntimeAdminIsolationEnabled", True),
    (APP, "functionAppConfig.deployment.storage.authentication.type", "UserAssignedIdentity"),
    (f"{APP}/basicPublishingCredentialsPolicies", "allow", False),
]

# Site properties and settings that Flex Consumption refuses, on some stamps or on all:
# learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations
REFUSED_PROPERTIES = {
    "ftpsState",
    "alwaysOn",
    "linuxFxVersion",
    "pythonVersion",
    "http20Enabled",
    "use32BitWorkerProcess",
    "functionAppScaleLimit",
    "preWarmedInstanceCount",
    "containerSize",
    "isReserved",
}
REFUSED_SETTINGS = ("FUNCTIONS_", "ENABLE_ORYX_BUILD", "SCM_", "WEBSITE_")

SECRETS = re.compile(
    r"\blist[A-Z]\w*\(|AccountKey|SharedAccess|InstrumentationKey|password|sig=", re.IGNORECASE
)


def _snapshot_path(option: str) -> Path:
    return SNAPSHOTS / f"{option}.json"


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _scope(scope: str) -> str:
    """What the guide calls the end of a resource's id."""
    for pattern, words in [
        (r"/tables/(\w+)$", r"table `\1`"),
        (r"/containers/([\w-]+)$", r"container `\1`"),
        (r"/eventhubs/(\w+)$", r"hub `\1`"),
        (r"/storageAccounts/meterr[ta]$", "runtime account"),
        (r"/storageAccounts/meterda$", "data account"),
        (r"/components/meter-ai$", "Application Insights"),
        (r"/CognitiveServices/accounts/[\w-]+$", "each account"),
    ]:
        if found := re.search(pattern, short_name(scope).replace("Microsoft.", ""), re.IGNORECASE):
            return found.expand(words)
    return scope


def _documented() -> set[tuple[str, str, str]]:
    """The rows of the guide's table of roles: id, who, on what."""
    rows = re.findall(r"^\| [\w ]+ \| `([0-9a-f-]{36})` \| ([^|]+) \| ([^|]+) \|", GUIDE, re.M)
    return {(role, who.strip(), what.strip()) for role, who, what in rows}


def _who(assignment: Assignment, *, is_separate: bool) -> tuple[str, ...]:
    match short_name(assignment.principal):
        case "meter-id":
            return ("front door",) if is_separate else ("front door", "aggregator")
        case "meter-agg-id":
            return ("aggregator",)
        case "meter-eh":
            return ("the namespace",)
        case "00000000-0000-0000-0000-00000000000a":
            return ("`analystsGroupId`",)
        case "00000000-0000-0000-0000-00000000000b":
            return ("`operatorsGroupId`",)
        case other:
            return (other,)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("kind", "path", "value"), HARDENING, ids=lambda value: str(value))
def test_every_resource_of_a_type_is_hardened(
    option: str, kind: str, path: str, value: object
) -> None:
    """Keys and passwords are off, TLS is 1.2 and blobs are private on every resource we deploy."""
    resources = deployment(option).of(kind)

    assert resources
    assert [r.name for r in resources if _at(r.properties, path) != value] == []


@pytest.mark.parametrize("option", OPTIONS)
def test_no_resource_is_deployed_twice(option: str) -> None:
    """Two declarations of one resource undo each other, or fail; Azure ignores the case of ids."""
    counts = Counter(resource.id.lower() for resource in deployment(option).resources)

    assert [id_ for id_, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("option", OPTIONS)
def test_every_role_is_a_documented_one(option: str) -> None:
    """A role that the guide does not list, on another resource or for someone else is a finding."""
    is_separate = option in TWO_APPS
    documented = _documented()
    undocumented = [
        each
        for each in deployment(option).assignments()
        if not any(
            (each.role, f"{who}{words}", _scope(each.scope)) in documented
            for who in _who(each, is_separate=is_separate)
            for words in ("", ", of two apps" if is_separate else "")
        )
    ]

    assert undocumented == []


def test_every_documented_role_is_assigned_by_some_option() -> None:
    """The guide promises nobody a right that is not there."""
    assigned = {
        (each.role, f"{who}{words}", _scope(each.scope))
        for option in OPTIONS
        for each in deployment(option).assignments()
        for who in _who(each, is_separate=option in TWO_APPS)
        for words in ("", ", of two apps")
    }

    assert _documented() - assigned == set()
    assert len(_documented()) > 10


def test_one_app_has_these_roles_and_no_other() -> None:
    """As shipped: what is needed to answer, publish, count and export."""
    found = {(each.role[:8], _scope(each.scope)) for each in deployment("shipped").assignments()}

    assert found == {
        ("b7e6dc6d", "runtime account"),
        ("0a9a7e1f", "data account"),
        ("2b629674", "hub `usage`"),
        ("a638d3c7", "hub `usage`"),
        ("3913510d", "Application Insights"),
        ("5e0bd9bd", "each account"),
        ("ba92f5b4", "container `exports`"),
    }


def test_of_two_apps_each_has_the_rights_of_its_half() -> None:
    """The front door writes no table but the outbox's; the aggregator calls no model and sends no event."""
    found: dict[str, set[tuple[str, str]]] = {}
    for each in deployment("two-apps").assignments():
        of = found.setdefault(short_name(each.principal), set())
        of.add((each.role[:8], _scope(each.scope)))

    assert found["meter-id"] == {
        ("b7e6dc6d", "runtime account"),
        ("0a9a7e1f", "table `Outbox`"),
        ("76199698", "data account"),
        ("2b629674", "hub `usage`"),
        ("3913510d", "Application Insights"),
        ("5e0bd9bd", "each account"),
    }
    assert found["meter-agg-id"] == {
        ("b7e6dc6d", "runtime account"),
        ("0a9a7e1f", "data account"),
        ("a638d3c7", "hub `usage`"),
        ("3913510d", "Application Insights"),
        ("ba92f5b4", "container `exports`"),
    }


def test_two_apps_share_no_runtime_account() -> None:
    """Who owns an account's blobs can move checkpoints and read the other host's keys."""
    owned = [
        short_name(each.scope.rsplit("/", 1)[-1])
        for each in sorted(deployment("two-apps").assignments(), key=lambda a: a.principal)
        if each.role.startswith("b7e6dc6d")
    ]

    assert owned == ["meterra", "meterrt"]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_role_assignment_of_a_new_principal_has_a_new_name(option: str) -> None:
    """Azure refuses to change the principal of an assignment: RoleAssignmentUpdateNotPermitted."""
    snapshot = json.loads(_snapshot_path(option).read_text("utf-8"))
    unnamed = [
        each["id"]
        for each in snapshot["predictedResources"]
        if each["type"].endswith("/roleAssignments")
        and (principal := each["properties"]["principalId"]).startswith("[")
        and principal.strip("[]") not in each["name"]
    ]

    assert unnamed == []


@pytest.mark.parametrize("option", OPTIONS)
def test_what_if_knows_every_resource_beforehand(option: str) -> None:
    """Only the principal of an identity, in the name of a role assignment, is Azure's to say."""
    snapshot = json.loads(_snapshot_path(option).read_text("utf-8"))
    unknown = [
        each["id"]
        for each in snapshot["predictedResources"]
        if "reference(" in each["id"] and not each["type"].endswith("/roleAssignments")
    ]

    assert unknown == []


@pytest.mark.parametrize("path", [TEMPLATE, *map(_snapshot_path, OPTIONS)], ids=lambda p: p.name)
def test_no_key_is_read_or_written_anywhere(path: Path) -> None:
    """No template asks Azure for a key, and none holds one."""
    document = json.loads(path.read_text("utf-8"))
    document.get("variables", {}).pop("_1.marksOfSecrets", None)  # to refuse them

    assert SECRETS.findall(json.dumps(document)) == []


@pytest.mark.parametrize("option", OPTIONS)
def test_every_connection_is_by_identity(option: str) -> None:
    """Each credential is the app's own identity, and settings that hold secrets only point to them."""
    for settings in deployment(option).settings().values():
        credentials = {v for k, v in settings.items() if k.endswith("__credential")}
        clients = {v for k, v in settings.items() if k.endswith(("__clientId", "_CLIENT_ID"))}
        keys = [v for k, v in settings.items() if k.endswith("_KEY")]

        assert credentials == {"managedidentity"}
        assert len(clients) == 1
        assert all(key.startswith("@Microsoft.KeyVault(SecretUri=https://") for key in keys)


@pytest.mark.parametrize("option", OPTIONS)
def test_no_app_sets_what_flex_consumption_refuses(option: str) -> None:
    """One such property fails the deployment after everything else was made (code 51021)."""
    for app in deployment(option).of(APP):
        config = app.properties["siteConfig"]
        names = [each["name"] for each in config["appSettings"]]

        assert config.keys() & REFUSED_PROPERTIES == set()
        assert [n for n in names if n.upper().startswith(REFUSED_SETTINGS)] == []


def _front_door(found: Deployment) -> dict[str, str]:
    """Its settings, with secrets in place of the references to them, as the app sees them."""
    settings = found.settings()[found.outputs["functionAppName"]]
    return {k: "k" * 40 if v.startswith("@Microsoft") else v for k, v in settings.items()}


@pytest.mark.parametrize("cloud", STORAGE_SUFFIXES)
@pytest.mark.parametrize("option", OPTIONS)
def test_the_app_accepts_its_settings(option: str, cloud: str) -> None:
    """Every mandatory one is set, and every METER_* one is known: the app's own check says so."""
    found = deployment(option, cloud)
    settings = load_settings(_front_door(found))
    aggregator = found.settings()[found.outputs["aggregatorAppName"]]

    assert len(settings.gateway.backends) == BACKENDS.get(option, 1)
    assert load_storage_settings(aggregator).endpoint.address == settings.storage.endpoint.address
    assert load_publish_settings(_front_door(found)).hub.name == "usage"
    assert load_export_settings(aggregator).problems == ()
    assert load_known_backends(aggregator) == settings.gateway.backends


def test_reconciliation_knows_the_accounts() -> None:
    """The ids of accounts are those that roles are assigned on."""
    settings = load_reconcile_settings(_front_door(deployment("other-subscription")))

    [backend] = settings.backends
    assert backend.resource_id is not None
    assert backend.resource_id.startswith("/subscriptions/44444444-4444-4444-4444-444444444444/")
    assert backend.resource_id in {
        each.scope for each in deployment("other-subscription").assignments()
    }


@pytest.mark.parametrize(
    ("cloud", "scope", "login"),
    [
        ("AzureCloud", "https://cognitiveservices.azure.com/.default", "microsoftonline.com"),
        ("AzureUSGovernment", "https://cognitiveservices.azure.us/.default", "microsoftonline.us"),
        ("AzureChinaCloud", "https://cognitiveservices.azure.cn/.default", "microsoftonline.cn"),
    ],
)
def test_each_cloud_has_its_addresses(cloud: str, scope: str, login: str) -> None:
    """Azure Government and Azure China refuse tokens of the public cloud, and issue their own."""
    settings = _front_door(deployment("shipped", cloud))

    assert settings["METER_BACKEND_TOKEN_SCOPE"] == scope
    assert login in settings["METER_ISSUERS"]
    assert settings["MeterStorage__tableServiceUri"].endswith(f".table.{STORAGE_SUFFIXES[cloud]}/")


def _functions() -> set[str]:
    tree = ast.parse((REPOSITORY / "function_app.py").read_text("utf-8"))
    return {
        str(ast.literal_eval(call.args[0]))
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "function_name"
    }


@pytest.mark.parametrize("option", sorted(TWO_APPS))
def test_of_two_apps_each_function_runs_in_one(option: str) -> None:
    """A function that ran in both would lack rights in one; the retention can be off in both."""
    found = deployment(option)
    runs = {
        app: {f for f in _functions() if f"AzureWebJobs.{f}.Disabled" not in settings}
        for app, settings in found.settings().items()
    }
    kept = {"retention"} if option == "two-apps" else set()

    assert runs[found.outputs["functionAppName"]] == {"front_door", "outbox"}
    assert runs[found.outputs["aggregatorAppName"]] == (
        _functions() - {"front_door", "outbox"} - kept
    )


@pytest.mark.parametrize("option", sorted(set(OPTIONS) - TWO_APPS))
def test_in_one_app_every_function_runs(option: str) -> None:
    """Only the retention is ever off, where ledgers are kept."""
    [settings] = deployment(option).settings().values()
    disabled = {name for name in settings if name.endswith(".Disabled")}

    assert disabled == ({"AzureWebJobs.retention.Disabled"} if option == "capture" else set())


def test_an_aggregator_of_its_own_holds_no_key_and_answers_no_call() -> None:
    """References to secrets are the front door's alone; the aggregator's address refuses everybody."""
    found = deployment("two-apps")
    name = found.outputs["aggregatorAppName"]
    [app] = [each for each in found.of(APP) if each.name == name]

    assert [v for v in found.settings()[name].values() if "KeyVault" in v] == []
    assert app.properties["siteConfig"]["ipSecurityRestrictionsDefaultAction"] == "Deny"
    assert app.properties["siteConfig"]["ipSecurityRestrictions"] == []


def test_each_app_has_the_always_ready_instances_of_its_functions() -> None:
    """Azure refuses an instance of a function that the app does not run."""
    found = deployment("two-apps")
    ready = {
        short_name(app.name): app.properties["functionAppConfig"]["scaleAndConcurrency"][
            "alwaysReady"
        ]
        for app in found.of(APP)
    }

    assert ready == {
        "meter-func": [{"name": "http", "instanceCount": 2}],
        "meter-agg": [{"name": "function:aggregator", "instanceCount": 1}],
    }


def test_exported_files_are_deleted_only_where_somebody_said_so() -> None:
    """By default old ones move to a cheaper tier; other containers are no concern of the rule."""
    actions = {}
    for option in ("shipped", "capture"):
        [policy] = deployment(option).of(f"{ACCOUNT}/managementPolicies")
        [rule] = policy.properties["policy"]["rules"]
        assert rule["definition"]["filters"]["prefixMatch"] == ["exports/v1/"]
        actions[option] = rule["definition"]["actions"]["baseBlob"]

    cool = {"tierToCool": {"daysAfterModificationGreaterThan": 400}}
    assert actions["shipped"] == cool
    assert actions["capture"] == cool | {"delete": {"daysAfterModificationGreaterThan": 800}}


def test_exports_can_be_switched_off() -> None:
    """Then there is neither container nor setting."""
    found = deployment("groups")
    containers = {r.name.rsplit("/", 1)[-1] for r in found.of(f"{ACCOUNT}/blobServices/containers")}

    assert containers == {"app-package"}
    assert "METER_EXPORT_CONTAINER" not in _front_door(found)
    assert found.outputs["exportsUrl"] == ""


def test_the_data_account_is_locked_against_deletion() -> None:
    """It holds the ledger; the runtime's account can be made anew."""
    [lock] = deployment("shipped").of("Microsoft.Authorization/locks")

    assert short_name(lock.id.split("/providers/Microsoft.Authorization/")[0]).endswith("/meterda")
    assert lock.properties["level"] == "CanNotDelete"


def test_forty_backends_of_twenty_accounts_get_one_role_each() -> None:
    """Two backends of one account, in any case of its name, would make one assignment twice."""
    found = deployment("forty-backends")
    accounts = [a.scope.lower() for a in found.assignments() if a.role.startswith("5e0bd9bd")]

    assert len(accounts) == len(set(accounts)) == 20
