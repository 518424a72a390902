"""The templates in infra/ keep the rules on keys, roles and settings, read as text."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
INFRA = REPOSITORY / "infra"
MAIN = INFRA / "main.bicep"
TEMPLATES = {path.name: path.read_text("utf-8") for path in [MAIN, *INFRA.glob("modules/*.bicep")]}
AZURE_YAML = (REPOSITORY / "azure.yaml").read_text("utf-8")
PARAMETER_FILE = (INFRA / "main.parameters.json").read_text("utf-8")
DEPLOYMENT_GUIDE = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")

ACCOUNT = "Microsoft.Storage/storageAccounts"
CONTAINER = "Microsoft.Storage/storageAccounts/blobServices/containers"
NAMESPACE = "Microsoft.EventHub/namespaces"
APP = "Microsoft.Web/sites"
PUBLISHING = "Microsoft.Web/sites/basicPublishingCredentialsPolicies"
APP_INSIGHTS = "Microsoft.Insights/components"
WORKSPACE = "Microsoft.OperationalInsights/workspaces"
ROLE_ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
DIAGNOSTICS = "Microsoft.Insights/diagnosticSettings"

# What a deployed resource of a type must say, and how many such resources there are.
HARDENING = [
    (ACCOUNT, 1, "allowSharedKeyAccess: false"),
    (ACCOUNT, 1, "allowBlobPublicAccess: false"),
    (ACCOUNT, 1, "minimumTlsVersion: 'TLS1_2'"),
    (ACCOUNT, 1, "supportsHttpsTrafficOnly: true"),
    (CONTAINER, 1, "publicAccess: 'None'"),
    (NAMESPACE, 1, "disableLocalAuth: true"),
    (NAMESPACE, 1, "minimumTlsVersion: '1.2'"),
    (APP_INSIGHTS, 1, "DisableLocalAuth: true"),
    (WORKSPACE, 1, "disableLocalAuth: true"),
    (APP, 1, "httpsOnly: true"),
    (APP, 1, "minTlsVersion: '1.2'"),
    (APP, 1, "scmMinTlsVersion: '1.2'"),
    (APP, 1, "functionsRuntimeAdminIsolationEnabled: true"),
    (APP, 1, "type: 'UserAssignedIdentity'"),
    (PUBLISHING, 2, "allow: false"),
]

# Role id, the resource it is given on, and who gets it. Nothing else may be assigned.
LEAST_ROLES = {
    # Storage Blob Data Owner
    ("b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "runtimeAccount", "appPrincipalId"),
    # Storage Table Data Contributor
    ("0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3", "dataAccount", "appPrincipalId"),
    # Storage Table Data Reader
    ("76199698-9eea-4c19-bc75-cec21354c6b6", "dataAccount", "analystsGroupId"),
    # Azure Event Hubs Data Sender
    ("2b629674-e913-4c01-ae53-ef4638d8f975", "hub", "appPrincipalId"),
    # Azure Event Hubs Data Receiver
    ("a638d3c7-ab3a-418d-83e6-5f17a39d4fde", "hub", "appPrincipalId"),
    # Cognitive Services OpenAI User
    ("5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", "openAiAccount", "appPrincipalId"),
    # Monitoring Reader
    ("43d0d8ad-25c7-4714-9337-8ba259a9fe05", "openAiAccount", "operatorsGroupId"),
    # Monitoring Metrics Publisher
    ("3913510d-42f4-4e42-8a64-420c390055eb", "appInsights", "appPrincipalId"),
    # Storage Blob Data Contributor: Capture writes as the namespace
    ("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "captureContainer", "namespacePrincipalId"),
    # Storage Blob Data Contributor: the nightly export
    ("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "exportContainer", "appPrincipalId"),
    # Storage Blob Data Reader
    ("2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", "exportContainer", "analystsGroupId"),
}

METER_SETTINGS = {
    "METER_ISSUERS",
    "METER_AUDIENCES",
    "METER_ALLOWED_TENANTS",
    "METER_ALLOWED_APPS",
    "METER_REQUIRED_ROLES",
    "METER_REQUIRED_SCOPES",
    "METER_SUBJECT_CLAIM",
    "METER_NAME_CLAIMS",
    "METER_LONG_CONTEXT_TOKENS",
    "METER_BACKENDS",
    "METER_DURABILITY",
    "METER_ON_DISCONNECT",
    "METER_RETENTION_DAYS",
    "METER_EVENT_HUB",
    "METER_BACKEND_TOKEN_SCOPE",
    "METER_EXPORT_CONTAINER",
}

# Settings and site properties that Flex Consumption refuses, on some stamps or on all:
# learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations
REFUSED_BY_FLEX = re.compile(
    r"^\s*(ftpsState|alwaysOn|linuxFxVersion|pythonVersion|http20Enabled|use32BitWorkerProcess"
    r"|functionAppScaleLimit|preWarmedInstanceCount|containerSize|isReserved"
    r"|FUNCTIONS_\w+|ENABLE_ORYX_BUILD|SCM_\w+|WEBSITE_\w+)\s*:",
    re.MULTILINE | re.IGNORECASE,
)

PLATFORM_SETTINGS = {
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "EventHubConnection__fullyQualifiedNamespace",
    "EventHubConnection__credential",
    "EventHubConnection__clientId",
    "MeterStorage__tableServiceUri",
    "MeterStorage__credential",
    "MeterStorage__clientId",
    "AZURE_CLIENT_ID",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}

BACKEND_KEYS = {"name", "url", "priority", "weight", "tier", "auth", "deployments"}
PRICING_KEYS = {"region", "deployment_type"}
ACCOUNT_KEYS = {"accountName", "accountResourceGroup", "accountSubscriptionId"}

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SECRETS = re.compile(
    r"\blist\w*\(|AccountKey|SharedAccess|InstrumentationKey|password|api-key|sig=|\bsecret", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A top-level resource or module of a template: its symbol, its type or path, its lines."""

    template: str
    symbol: str
    kind: str
    is_existing: bool
    lines: tuple[str, ...]

    def value(self, name: str) -> str:
        """Returns what the property `name`, at any depth, is set to; empty when it is not set."""
        prefix = f"{name}: "
        return next(
            (line.removeprefix(prefix) for line in self.lines if line.startswith(prefix)), ""
        )


def _declarations(keyword: str) -> list[Declaration]:
    pattern = re.compile(
        rf"^{keyword} (\w+) '([^'@]+)[^']*' (existing )?=(.*?)^[}}\]]", re.MULTILINE | re.DOTALL
    )
    return [
        Declaration(
            template=template,
            symbol=found[1],
            kind=found[2],
            is_existing=found[3] is not None,
            lines=tuple(_without_comment(line) for line in found[4].splitlines()),
        )
        for template, text in TEMPLATES.items()
        for found in pattern.finditer(text)
    ]


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)//.*", "", line).strip()


def _deployed(kind: str) -> list[Declaration]:
    return [
        resource
        for resource in _declarations("resource")
        if resource.kind == kind and not resource.is_existing
    ]


def _module(symbol: str) -> Declaration:
    return next(module for module in _declarations("module") if module.symbol == symbol)


def _block(template: str, opening: str) -> str:
    """Returns the text from the line that starts with `opening` up to its closing bracket."""
    found = re.search(
        rf"^{re.escape(opening)}.*?^[}}\])]", TEMPLATES[template], re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"{template} has no {opening!r}"
    return found[0]


def _assignments(resource: Declaration) -> tuple[str, str, str]:
    text = TEMPLATES[resource.template]
    variable = re.search(
        r"'Microsoft.Authorization/roleDefinitions', (\w+)\)", resource.value("roleDefinitionId")
    )
    assert variable is not None, f"{resource.symbol} names no role variable"
    role = re.search(rf"^var {variable[1]} = '({GUID.pattern})'$", text, re.MULTILINE)
    assert role is not None, f"{variable[1]} is not a role id"
    return role[1], resource.value("scope"), resource.value("principalId")


@pytest.mark.parametrize(("kind", "count", "line"), HARDENING, ids=lambda value: str(value))
def test_every_resource_of_a_type_is_hardened(kind: str, count: int, line: str) -> None:
    """Keys and passwords are off, TLS is 1.2 and blobs are private on every resource we deploy."""
    resources = _deployed(kind)

    assert len(resources) == count
    assert [r.symbol for r in resources if line not in r.lines] == []


def test_the_roles_are_the_least_ones_and_each_has_its_scope() -> None:
    """A role outside the table, on another resource or for someone else is a finding."""
    assigned = [_assignments(resource) for resource in _deployed(ROLE_ASSIGNMENT)]

    assert len(assigned) == len(LEAST_ROLES)
    assert set(assigned) == LEAST_ROLES


def test_no_role_is_assigned_but_through_a_declared_assignment() -> None:
    """The templates hold no id that the role table does not explain."""
    ids = {found for text in TEMPLATES.values() for found in GUID.findall(text)}

    assert ids == {role for role, _, _ in LEAST_ROLES}


def test_each_role_lands_on_the_account_its_name_says() -> None:
    """Runtime and data account have one type: swapped, the app could read no table."""
    access = _module("access")

    assert access.value("runtimeAccountName") == "runtimeStorage.outputs.name"
    assert access.value("dataAccountName") == "dataStorage.outputs.name"
    assert access.value("appPrincipalId") == "identity.outputs.principalId"
    assert access.value("analystsGroupId") == "analystsGroupId"


def test_role_assignments_are_named_after_what_they_join() -> None:
    """A name made of scope, principal and role makes a second deployment change nothing."""
    names = {r.symbol: r.value("name") for r in _deployed(ROLE_ASSIGNMENT)}
    scopes = {r.symbol: r.value("scope") for r in _deployed(ROLE_ASSIGNMENT)}

    assert [s for s, n in names.items() if not n.startswith(f"guid({scopes[s]}.id, ")] == []
    assert len(set(names.values())) == len(names)


def test_a_role_assignment_of_a_new_principal_has_a_new_name() -> None:
    """Azure refuses to change the principal of an assignment: RoleAssignmentUpdateNotPermitted."""
    assignments = _deployed(ROLE_ASSIGNMENT)

    assert [
        r.symbol for r in assignments if f", {r.value('principalId')}, " not in r.value("name")
    ] == []


def test_capture_writes_as_the_namespace_itself() -> None:
    """The principal that writes is the one of the namespace of this deployment."""
    capture = _module("captureAccess")

    assert capture.value("namespacePrincipalId") == (
        "captureEnabled ? namespace.identity.principalId : ''"
    )
    assert "if (captureEnabled)" in TEMPLATES["event-hubs.bicep"]


def test_no_template_sets_what_flex_consumption_refuses() -> None:
    """One such property fails the deployment after everything else was made (code 51021)."""
    found = {name: REFUSED_BY_FLEX.findall(text) for name, text in TEMPLATES.items()}

    assert [name for name, properties in found.items() if properties] == []


def test_ledgers_can_be_kept_by_a_parameter() -> None:
    """A setting made by hand would be lost with the next deployment, and ledgers the night after."""
    assert "param keepLedgers bool = false\n" in TEMPLATES["main.bicep"]
    assert (
        "keepLedgers ? { 'AzureWebJobs.retention.Disabled': 'true' } : {}"
        in TEMPLATES["main.bicep"]
    )


def test_exports_have_a_container_that_the_app_and_the_analysts_reach() -> None:
    """On the locked account; switched off, neither container nor setting is there."""
    text, access = TEMPLATES["main.bicep"], _module("exportAccess")
    storage = " ".join(_block("main.bicep", "module dataStorage").split())

    assert "param exportsEnabled bool = true\n" in text
    assert "exportsEnabled ? { METER_EXPORT_CONTAINER: exportContainer } : {}" in text
    assert "exportsEnabled ? [exportContainer] : []" in storage
    assert access.value("accountName") == "dataStorage.outputs.name"
    assert access.value("appPrincipalId") == "identity.outputs.principalId"
    assert access.value("analystsGroupId") == "analystsGroupId"


def test_exported_files_are_deleted_only_where_somebody_said_so() -> None:
    """By default old ones move to a cheaper tier; other containers are no concern of the rule."""
    [policy] = _deployed(f"{ACCOUNT}/managementPolicies")

    assert "param exportsDeleteAfterDays int = 0\n" in TEMPLATES["main.bicep"]
    assert "'${containerName}/v1/'" in policy.lines
    deletion = "{ delete: { daysAfterModificationGreaterThan: deleteAfterDays } }"
    assert f"deleteAfterDays > 0 ? {deletion} : {{}}" in policy.lines


def test_each_cloud_has_its_token_scope() -> None:
    """Azure Government and Azure China refuse tokens of the public cloud."""
    block = _block("main.bicep", "var backendTokenScopes")

    assert dict(re.findall(r"^  (\w+): '(.+)'$", block, re.MULTILINE)) == {
        "AzureCloud": "https://cognitiveservices.azure.com/.default",
        "AzureUSGovernment": "https://cognitiveservices.azure.us/.default",
        "AzureChinaCloud": "https://cognitiveservices.azure.cn/.default",
    }
    assert (
        "METER_BACKEND_TOKEN_SCOPE: backendTokenScopes[environment().name]"
        in TEMPLATES["main.bicep"]
    )


def test_every_role_is_explained_in_the_deployment_guide() -> None:
    """Who deploys can look up each role, by its id, in docs/deployment.md."""
    missing = [role for role, _, _ in LEAST_ROLES if role not in DEPLOYMENT_GUIDE]

    assert missing == []


def test_the_meter_settings_have_the_documented_names() -> None:
    """The app gets exactly the METER_* settings of the contract that have a parameter here."""
    named = set(re.findall(r"\b(METER_\w+):", _block("main.bicep", "var meterSettings")))
    anywhere = {
        name for text in TEMPLATES.values() for name in re.findall(r"\bMETER_[A-Z_]+", text)
    }

    assert named == METER_SETTINGS
    assert anywhere - {"METER_"} == METER_SETTINGS


def test_every_connection_is_by_identity() -> None:
    """The settings besides METER_* are these; none of them holds a key."""
    block = _block("function-app.bicep", "var appSettings")
    named = re.findall(r"^  (\w+): (.+)$", block, re.MULTILINE)
    credentials = {value for name, value in named if name.endswith("__credential")}
    clients = {value for name, value in named if name.endswith(("__clientId", "_CLIENT_ID"))}

    assert {name for name, _ in named} == PLATFORM_SETTINGS
    assert credentials == {"'managedidentity'"}
    assert clients == {"identityClientId"}


def test_the_platform_settings_cannot_be_replaced() -> None:
    """In a union the later name counts: free-form settings come first, identity settings last."""
    assert _block("main.bicep", "var meterSettings").splitlines()[1] == "  additionalSettings,"
    assert "var appSettings = union(meterSettings, {" in TEMPLATES["function-app.bicep"]


def test_the_meter_reads_the_data_account_and_not_the_runtime_one() -> None:
    """MeterStorage points to the account that is locked and that analysts read."""
    app = _module("functionApp")

    assert app.value("dataTableEndpoint") == "dataStorage.outputs.tableEndpoint"
    assert app.value("runtimeTableEndpoint") == "runtimeStorage.outputs.tableEndpoint"
    assert "MeterStorage__tableServiceUri: dataTableEndpoint" in TEMPLATES["function-app.bicep"]


def test_the_backends_setting_has_the_documented_shape() -> None:
    """An entry of METER_BACKENDS has these keys, and proves itself by managed identity."""
    entry = _block("main.bicep", "var backendEntries")
    keys = set(re.findall(r"^    (\w+): ", entry, re.MULTILINE))

    assert keys == BACKEND_KEYS | PRICING_KEYS | {"resource_id"}
    assert "auth: backend.?auth ?? { kind: 'managed-identity' }" in entry
    assert "METER_BACKENDS: string({ backends: backendEntries })" in TEMPLATES["main.bicep"]


def test_a_backends_resource_id_is_its_accounts() -> None:
    """Made of the same three names as the role assignment's scope; null where there is no name."""
    entry = " ".join(_block("main.bicep", "var backendEntries").split())
    module = " ".join(_block("main.bicep", "module openAiAccess").split())
    place = [
        "backend.?accountSubscriptionId ?? subscription().subscriptionId",
        "backend.?accountResourceGroup ?? resourceGroup().name",
    ]

    assert f"resource_id: empty(backend.?accountName) ? null : resourceId( {place[0]}, " in entry
    assert f"{place[1]}, 'Microsoft.CognitiveServices/accounts', backend.?accountName" in entry
    assert all(each in module for each in place)


def test_the_default_issuers_are_both_of_the_tenant() -> None:
    """v1 and v2 tokens of the tenant are accepted without setting an issuer by hand."""
    block = _block("main.bicep", "param issuers")

    assert [line.strip() for line in block.splitlines()[1:-1]] == [
        "'${environment().name == 'AzureChinaCloud' ? 'https://sts.chinacloudapi.cn' "
        ": 'https://sts.windows.net'}/${tenantId}/'",
        "uri(environment().authentication.loginEndpoint, '${tenantId}/v2.0')",
    ]


def test_an_empty_allow_list_sets_nothing() -> None:
    """A list left empty leaves its setting out, so that no empty value has to mean anything."""
    text = TEMPLATES["main.bicep"]

    assert "empty(allowedApps) ? {} : { METER_ALLOWED_APPS: join(allowedApps, ',') }" in text
    assert "empty(requiredRoles) ? {} : { METER_REQUIRED_ROLES: join(requiredRoles, ',') }" in text
    assert (
        "empty(requiredScopes) ? {} : { METER_REQUIRED_SCOPES: join(requiredScopes, ',') }" in text
    )


@pytest.mark.parametrize("name", ["audiences", "issuers", "allowedTenants", "backends"])
def test_what_decides_who_gets_in_cannot_be_empty(name: str) -> None:
    """A deployment without audience, issuer, tenant or backend is refused before it starts."""
    assert f"@minLength(1)\nparam {name} " in TEMPLATES["main.bicep"]


def test_no_template_holds_or_fetches_a_secret() -> None:
    """No key, password or list*() call; the one connection string says where telemetry goes."""
    files = TEMPLATES | {"azure.yaml": AZURE_YAML, "main.parameters.json": PARAMETER_FILE}
    found = {name: SECRETS.findall(text) for name, text in files.items() if SECRETS.search(text)}
    strings = {
        line
        for text in files.values()
        for line in re.findall(r"\S*\.\w*ConnectionString\b", text, re.IGNORECASE)
    }

    assert found == {}
    assert strings == {
        "appInsights.properties.ConnectionString",
        "monitoring.outputs.appInsightsConnectionString",
    }


def test_the_app_runs_python_on_flex_consumption() -> None:
    """The plan is FC1 and the runtime the Python version the project is tested with."""
    [plan] = _deployed("Microsoft.Web/serverfarms")
    [app] = _deployed(APP)
    runtime = app.lines.index("runtime: {")

    assert plan.value("tier") == "'FlexConsumption'"
    assert plan.value("name") == "planName"
    assert "name: 'FC1'" in plan.lines
    assert app.lines[runtime + 1 : runtime + 3] == ("name: 'python'", "version: '3.13'")
    assert app.value("perInstanceConcurrency") == "httpPerInstanceConcurrency"


def test_the_host_starts_only_after_its_roles() -> None:
    """An app deployed before its roles cannot read its own storage."""
    app = _module("functionApp")
    depends_on = app.lines.index("dependsOn: [")

    assert app.lines[depends_on + 1] == "access"


def test_the_hub_is_the_one_the_meter_expects() -> None:
    """Hub `usage`, 8 partitions unless asked otherwise, 7 days, groups aggregator and audit."""
    [hub] = _deployed(f"{NAMESPACE}/eventhubs")
    groups = {g.value("name") for g in _deployed(f"{NAMESPACE}/eventhubs/consumergroups")}

    assert "var eventHubName = 'usage'\n" in TEMPLATES["main.bicep"]
    assert "param eventHubPartitions int = 8\n" in TEMPLATES["main.bicep"]
    assert "param captureEnabled bool = false\n" in TEMPLATES["main.bicep"]
    assert hub.value("retentionTimeInHours") == "168"
    assert groups == {"'aggregator'", "'audit'"}


def test_the_usage_data_is_locked_against_deletion() -> None:
    """The data account has a delete lock; the runtime account needs none."""
    [lock] = _deployed("Microsoft.Authorization/locks")

    assert lock.value("level") == "'CanNotDelete'"
    assert lock.value("scope") == "account"
    assert _module("dataStorage").value("deleteLock") == "true"
    assert _module("runtimeStorage").value("deleteLock") == ""


def test_the_fixed_tables_are_the_documented_ones() -> None:
    """Analysts find their tables before the first call; ledger tables are the app's own."""
    tables = re.findall(r"'(\w+)'", _block("main.bicep", "var usageTables"))

    assert tables == [
        "UsageByHour",
        "UsageByDay",
        "UsageByMonth",
        "ViewShards",
        "Subjects",
        "DeadLetters",
        "HubPositions",
        "Outbox",
    ]


def test_what_can_fail_reports_to_log_analytics() -> None:
    """App, namespace, blobs and tables send their logs and metrics to the workspace."""
    settings = _deployed(DIAGNOSTICS)

    assert {s.value("scope") for s in settings} == {
        "app",
        "namespace",
        "blobService",
        "tableService",
    }
    assert {s.value("workspaceId") for s in settings} == {"workspaceId"}


def test_azd_finds_the_app_by_the_name_of_the_service() -> None:
    """The only service of azure.yaml is the value of the app's azd-service-name tag."""
    services = AZURE_YAML.partition("\nservices:\n")[2]
    names = re.findall(r"^  ([\w-]+):", services, re.MULTILINE)
    tags = re.findall(r"'azd-service-name': '([\w-]+)'", TEMPLATES["function-app.bicep"])

    assert names == tags == ["api"]
    assert {"    project: .", "    language: python", "    host: function"} <= set(
        services.splitlines()
    )


def test_the_example_parameters_fit_the_template() -> None:
    """Each example value has a parameter, and each parameter without a default an example."""
    given = set(json.loads(PARAMETER_FILE)["parameters"])
    declared = dict(re.findall(r"^param (\w+) [^\n=]+?( =.*)?$", TEMPLATES["main.bicep"], re.M))
    needed = {name for name, default in declared.items() if not default}

    assert needed == {"audiences", "backends"}
    assert needed <= given <= set(declared)


def test_the_example_backends_have_only_known_keys() -> None:
    """The compiler would refuse an unknown key, but only at deployment."""
    backends = json.loads(PARAMETER_FILE)["parameters"]["backends"]["value"]
    typed = set(re.findall(r"^  (\w+): ", _block("main.bicep", "type backendType"), re.MULTILINE))

    assert typed == BACKEND_KEYS | PRICING_KEYS | ACCOUNT_KEYS
    assert all(BACKEND_KEYS - {"auth"} <= set(backend) <= typed for backend in backends)
    assert all(backend["url"].startswith("https://") for backend in backends)


def test_every_module_is_used() -> None:
    """A module that main.bicep does not name is deployed by nobody."""
    used = {Path(module.kind).name for module in _declarations("module")}

    assert used == set(TEMPLATES) - {"main.bicep"}


def test_the_outputs_are_the_documented_ones() -> None:
    """Scripts after a deployment read these six names."""
    outputs = re.findall(r"^output (\w+) ", TEMPLATES["main.bicep"], re.MULTILINE)

    assert outputs == [
        "functionAppName",
        "gatewayUrl",
        "eventHubNamespace",
        "tableServiceUri",
        "exportsUrl",
        "identityClientId",
    ]
