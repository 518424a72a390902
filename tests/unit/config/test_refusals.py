"""Settings that would fail later, or have no effect, are refused when they are read."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from meter.config.environment import load_settings, load_storage_settings
from meter.config.host import function_timeout_seconds
from meter.config.reader import Reader, is_reference
from meter.errors import InvalidSettings, Problem
from tests.unit.config.test_environment import BACKEND, CONNECTION, REQUIRED, backends

TENANT = "5d1f7c1e-3c52-4b8e-9f0a-0c1d2e3f4a5b"
HUB_ADDRESS = "EventHubConnection__fullyQualifiedNamespace"
TABLE_ADDRESS = "MeterStorage__tableServiceUri"


def found(settings: Mapping[str, str]) -> tuple[Problem, ...]:
    with pytest.raises(InvalidSettings) as refused:
        load_settings(settings)
    return refused.value.found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("METER_REQUIRED_ROLE", "is not a setting: did you mean METER_REQUIRED_ROLES?"),
        ("METER_AUDIENCE", "is not a setting: did you mean METER_AUDIENCES?"),
        ("METER_DURABILTY", "is not a setting: did you mean METER_DURABILITY?"),
        ("METER_ALLOWED_TENANT", "is not a setting: did you mean METER_ALLOWED_TENANTS?"),
        ("meter_required_roles", "is not a setting: did you mean METER_REQUIRED_ROLES?"),
        ("METER_FOO", "is not a setting; docs/configuration.md lists them"),
        ("MeterStorge", "is not a setting: did you mean MeterStorage?"),
        ("METERSTORAGE", "is not a setting: did you mean MeterStorage?"),
        ("Meter_Storage", "is not a setting: did you mean MeterStorage?"),
        ("MeterStorage_clientId", "is not a setting: did you mean MeterStorage__clientId?"),
        ("MeterStorage__accountNme", "is not a setting; docs/configuration.md lists them"),
        ("MeterStorageConnection", "is not a setting; docs/configuration.md lists them"),
        ("EventHubsConnection", "is not a setting: did you mean EventHubConnection?"),
        (
            "EventHubConnection__fullyQualifiedNamspace",
            f"is not a setting: did you mean {HUB_ADDRESS}?",
        ),
        ("AzureWebJobsStorge", "is not a setting: did you mean AzureWebJobsStorage?"),
    ],
)
def test_an_unknown_setting_is_refused(name: str, text: str) -> None:
    """A misspelt rule would let everybody in."""
    assert found(REQUIRED | {name: "x"}) == (Problem(name, text),)


@pytest.mark.parametrize(
    "name",
    [
        "AzureWebJobsStorage__blobServiceUri",
        "AzureWebJobsStorage__endpointSuffix",
        "AzureWebJobsScriptRoot",
        "AzureWebJobsSecretStorageType",
        "EventHubConnection__credential",
        "MeterStorage__credential",
        "AZURE_TENANT_ID",
    ],
)
def test_what_the_host_and_the_sdks_read_is_no_problem(name: str) -> None:
    """Their names are not ours to know."""
    assert load_settings(REQUIRED | {name: "x"})


def test_every_reader_refuses_unknown_settings() -> None:
    """A misspelt retention would drop ledgers that were to be kept."""
    with pytest.raises(InvalidSettings, match="did you mean METER_RETENTION_DAYS"):
        load_storage_settings({"MeterStorage": CONNECTION, "METER_RETENTION_DAY": "400"})


def test_all_documented_settings_are_known() -> None:
    """Those that other readers and the local stack use as well."""
    documented = {
        "METER_MONITOR_URL": "https://management.azure.com",
        "METER_RETAIL_PRICES_URL": "https://prices.azure.com",
        "METER_LOG_LEVEL": "INFO",
        "METER_OUTBOX_INTERVAL_SECONDS": "2",
        "METER_SHUTDOWN_SECONDS": "20",
        "METER_EVENT_HUB": "usage",
    }

    assert load_settings(REQUIRED | documented).hub.name == "usage"


def test_a_setting_that_holds_a_backends_key_may_have_any_name() -> None:
    """Also for the readers that do not read the backends."""
    entry = BACKEND | {"auth": {"kind": "api-key", "setting": "METER_EU_KEY"}}
    settings = backends(entry) | {"METER_EU_KEY": "secret"}

    assert load_settings(settings).gateway.backends[0].name == "eu"
    assert load_storage_settings(settings).endpoint.connection_string == CONNECTION


@pytest.mark.parametrize(
    "name", ["METER_AUDIENCES", "EventHubConnection", "MeterStorage", "EU_KEY", "METER_BACKENDS"]
)
def test_an_unresolved_reference_is_refused(name: str) -> None:
    """Azure leaves the reference in place; it would be sent as a key, or match no token."""
    keyed = backends(BACKEND | {"auth": {"kind": "api-key", "setting": "EU_KEY"}})
    reference = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/hunter2)"

    problems = found(keyed | {"EU_KEY": "key"} | {name: reference})

    assert problems[0].setting == name
    assert problems[0].text.startswith("is a reference that Azure has not resolved")
    assert [each for each in problems if each.setting == name] == [problems[0]]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    "address",
    [
        "sb://contoso.servicebus.windows.net",
        "https://contoso.servicebus.windows.net/",
        "contoso.servicebus.windows.net/usage",
        "hello world",
        "contoso",
        "contoso.blob.core.windows.net",
        "contoso.servicebus.windows.net,other.servicebus.windows.net",
        "contoso.servicebus.windows.net:5671",
    ],
)
def test_a_namespace_is_a_host_name(address: str) -> None:
    """The SDK would try to resolve anything else."""
    settings = {k: v for k, v in REQUIRED.items() if k != "EventHubConnection"}

    (problem,) = found(settings | {HUB_ADDRESS: address})

    assert problem.setting == HUB_ADDRESS
    assert problem.text.endswith("for example contoso.servicebus.windows.net")
    assert problem.detail == f"got {address!r}"


@pytest.mark.parametrize(
    "address",
    [
        "https://a.blob.core.windows.net",
        "https://a.queue.core.windows.net",
        "https://a.table.core.windows.net/UsageByMonth",
        "https://a.table.core.windows.net?sv=1",
        "http://a.table.core.windows.net",
        "a.table.core.windows.net",
        "sb://a.servicebus.windows.net",
        "https://a.documents.azure.com",
    ],
)
def test_a_table_address_is_an_accounts(address: str) -> None:
    """A blob address answers every request with an error of its own."""
    settings = {k: v for k, v in REQUIRED.items() if k != "MeterStorage"}

    (problem,) = found(settings | {TABLE_ADDRESS: address})

    shown = address.partition("?")[0]
    assert (problem.setting, problem.detail) == (TABLE_ADDRESS, f"got {shown!r}")


@pytest.mark.parametrize(
    ("hub", "table"),
    [
        ("contoso.servicebus.windows.net", "https://a.table.core.windows.net/"),
        ("contoso.servicebus.usgovcloudapi.net", "https://a.table.core.usgovcloudapi.net"),
        ("contoso.servicebus.chinacloudapi.cn", "https://a.table.core.chinacloudapi.cn"),
        ("CONTOSO.servicebus.windows.net", "https://a.z01.table.storage.azure.net"),
        ("localhost:5671", "http://127.0.0.1:10002/devstoreaccount1"),
    ],
)
def test_addresses_of_all_clouds_and_the_local_stack_are_accepted(hub: str, table: str) -> None:
    """Public, US Government, China, DNS zones, loopback."""
    named = {HUB_ADDRESS: hub, TABLE_ADDRESS: table}
    settings = {k: v for k, v in REQUIRED.items() if not k.startswith(("EventHub", "MeterS"))}

    loaded = load_settings(settings | named)

    assert (loaded.hub.endpoint.address, loaded.storage.endpoint.address) == (hub, table)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("EventHubConnection", CONNECTION, "is a connection string of another service"),
        ("MeterStorage", REQUIRED["EventHubConnection"], "is a connection string of another"),
        (
            "EventHubConnection",
            "Endpoint=sb://hub/;SharedAccessKey=s;EntityPath=other",
            "is of another hub than METER_EVENT_HUB names",
        ),
    ],
)
def test_a_connection_string_of_another_service_is_refused(
    name: str, value: str, text: str
) -> None:
    """The two are easily swapped."""
    (problem,) = found(REQUIRED | {name: value})

    assert problem.setting == name
    assert problem.text.startswith(text)


V1 = "https://sts.windows.net/TENANT-ID/"
V2 = "https://login.microsoftonline.com/TENANT-ID/v2.0"
V2_CHINA = "https://login.partner.microsoftonline.cn/TENANT-ID/v2.0"


@pytest.mark.parametrize(
    ("issuer", "form"),
    [
        (f"https://sts.windows.net/{TENANT}", V1),
        (f"https://sts.windows.net/{TENANT}/v2.0/", V1),
        ("https://sts.windows.net/", V1),
        ("https://login.microsoftonline.com/common/v2.0", V2),
        ("https://login.microsoftonline.com/contoso.com/v2.0", V2),
        (f"https://login.microsoftonline.com/{TENANT}", V2),
        (f"https://login.microsoftonline.com/{TENANT}/v2.0/", V2),
        (f"https://login.microsoftonline.com/{TENANT.upper()}/v2.0", V2),
        (f"https://Login.MicrosoftOnline.com/{TENANT}/v2.0", V2),
        (f"https://login.microsoftonline.com:443/{TENANT}/v2.0", V2),
        (f"https://login.partner.microsoftonline.cn/{TENANT}/", V2_CHINA),
        (f"https://login.windows.net/{TENANT}/v2.0", f"{V1} or {V2}"),
        (f"https://login.microsoft.com/{TENANT}/v2.0", f"{V1} or {V2}"),
        (f"https://login.chinacloudapi.cn/{TENANT}/", V2_CHINA),
    ],
)
def test_an_issuer_that_no_token_names_is_refused(issuer: str, form: str) -> None:
    """`iss` is compared exactly, so every token would be refused. The text shows the right form."""
    (problem,) = found(REQUIRED | {"METER_ISSUERS": issuer})

    assert problem.text.startswith("must be as tokens name it: ")
    assert f"{form}, with" in problem.text
    assert problem.detail == f"got {issuer!r}"


@pytest.mark.parametrize(
    "issuer",
    [
        f"https://sts.windows.net/{TENANT}/",
        f"https://sts.chinacloudapi.cn/{TENANT}/",
        f"https://login.microsoftonline.com/{TENANT}/v2.0",
        f"https://login.microsoftonline.us/{TENANT}/v2.0",
        f"https://login.partner.microsoftonline.cn/{TENANT}/v2.0",
        f"https://{TENANT}.ciamlogin.com/{TENANT}/v2.0",
        f"https://contoso.b2clogin.com/{TENANT}/v2.0/",
        "https://id.contoso.example/realms/main",
    ],
)
def test_the_issuers_of_all_clouds_and_of_others_are_accepted(issuer: str) -> None:
    """Entra's own as v1 and v2 tokens name them; of others any form."""
    assert load_settings(REQUIRED | {"METER_ISSUERS": issuer})


@pytest.mark.parametrize("setting", ["METER_ALLOWED_TENANTS", "METER_ALLOWED_APPS"])
def test_a_tenant_or_an_app_of_entra_is_its_id(setting: str) -> None:
    """As tokens have it: never a name, and in small letters. Other issuers' may be any text."""
    issuers = {"METER_ISSUERS": f"https://login.microsoftonline.com/{TENANT}/v2.0"}
    upper = TENANT.upper()

    (problem,) = found(REQUIRED | issuers | {setting: f"contoso,{TENANT},{upper}"})

    assert (problem.setting, problem.detail) == (setting, f"got {upper}, contoso")
    assert load_settings(REQUIRED | {setting: "contoso"})


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("contoso.search.windows.net", "Azure AI Search"),
        ("contoso.search.azure.us", "Azure AI Search"),
        ("contoso.documents.azure.com", "Azure Cosmos DB"),
        ("contoso.documents.azure.cn", "Azure Cosmos DB"),
        ("contoso.azurewebsites.net", "App Service"),
        ("contoso.scm.azurewebsites.net", "App Service"),
        ("contoso.chinacloudsites.cn", "App Service"),
        ("contoso.vault.azure.net", "Key Vault"),
        ("contoso.vault.usgovcloudapi.net", "Key Vault"),
        ("contoso.servicebus.windows.net", "Event Hubs or Service Bus"),
        ("CONTOSO.servicebus.chinacloudapi.cn", "Event Hubs or Service Bus"),
        ("contoso.blob.core.windows.net", "Azure Storage"),
        ("contoso.table.core.windows.net", "Azure Storage"),
        ("contoso.queue.core.usgovcloudapi.net", "Azure Storage"),
        ("contoso.z01.blob.storage.azure.net", "Azure Storage"),
        ("contoso.database.windows.net", "Azure SQL"),
        ("management.azure.com", "Azure Resource Manager"),
        ("login.microsoftonline.com", "Entra ID"),
        ("openai.azure.com", "no account, since the account's name is missing"),
        ("cognitiveservices.azure.us", "no account, since the account's name is missing"),
    ],
)
def test_a_backend_on_another_services_host_is_refused(host: str, service: str) -> None:
    """It would answer every call with an error of its own. The text names the kind of service."""
    (problem,) = found(backends(BACKEND | {"url": f"https://{host}"}))

    assert f"this host is of {service};" in problem.text


@pytest.mark.parametrize(
    "host",
    [
        "contoso.openai.azure.com",
        "contoso.openai.azure.us",
        "contoso.openai.azure.cn",
        "contoso.privatelink.openai.azure.com",
        "contoso.cognitiveservices.azure.com",
        "contoso.services.ai.azure.com",
        "contoso.azure-api.net",
        "contoso.azurefd.net",
        "search.contoso.example",
        "blob.search.example",
    ],
)
def test_a_backend_on_an_accounts_or_an_unknown_host_is_accepted(host: str) -> None:
    """A custom domain, API Management and other proxies may stand before an account."""
    assert load_settings(backends(BACKEND | {"url": f"https://{host}"}))


def test_a_call_may_not_take_longer_than_its_function() -> None:
    """The host would end it, and every other call of the instance with it."""
    (problem,) = found(REQUIRED | {"METER_TOTAL_TIMEOUT_SECONDS": "7200"})

    assert problem.setting == "METER_TOTAL_TIMEOUT_SECONDS"
    assert "functionTimeout, 1800 seconds" in problem.text
    unlimited = {"AzureFunctionsJobHost__functionTimeout": "-1"}
    assert load_settings(REQUIRED | unlimited | {"METER_TOTAL_TIMEOUT_SECONDS": "7200"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('{"functionTimeout": "00:30:00"}', 1800),
        ('{"functionTimeout": "1.02:00:05"}', 93_605),
        ('{"functionTimeout": "-1"}', float("inf")),
        ("{}", float("inf")),
        ("[", float("inf")),
    ],
)
def test_the_hosts_limit_is_in_host_json(tmp_path: Path, text: str, seconds: float) -> None:
    """`-1` is no limit."""
    file = tmp_path / "host.json"
    file.write_text(text)

    assert function_timeout_seconds(Reader({}), file) == seconds


def test_a_problem_of_the_document_names_its_file(tmp_path: Path) -> None:
    """With the key, what is accepted and an example; the place is for operators."""
    file = tmp_path / "backends.json"
    file.write_text(json.dumps([BACKEND | {"weight": "10"}]))

    (problem,) = found(REQUIRED | {"METER_BACKENDS": str(file)})

    assert problem.text == "weight must be 1-100, got '10'; for example \"weight\": 1"
    assert problem.detail == f"backend 'eu' in {str(file)!r}"


@pytest.mark.parametrize(
    "changes",
    [
        backends(BACKEND | {"url": "https://hunter2.blob.core.windows.net"}),
        backends(BACKEND | {"auth": {"kind": "api-key", "setting": "hunter2"}}),
        {"METER_BACKENDS": "/hunter2/backends.json"},
        {"METER_ISSUERS": "http://hunter2.example"},
        {"EventHubConnection": "", HUB_ADDRESS: "sb://hunter2"},
        {"MeterStorage": "", TABLE_ADDRESS: "https://hunter2.blob.core.windows.net"},
    ],
    ids=str,
)
def test_texts_name_no_host_and_no_place(changes: dict[str, str]) -> None:
    """They are public (`/readyz`); details are not."""
    (problem,) = found(REQUIRED | changes)

    assert "hunter2" not in problem.text


HUB_STRING = "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=hunter2="


@pytest.mark.parametrize(
    "changes",
    [
        {"EventHubConnection": "", HUB_ADDRESS: HUB_STRING},
        {"EventHubConnection": "", HUB_ADDRESS: "user:hunter2@contoso.servicebus.windows.net"},
        {"MeterStorage": "", TABLE_ADDRESS: "AccountName=contoso;AccountKey=hunter2=="},
        {"MeterStorage": "", TABLE_ADDRESS: "https://a.table.core.windows.net?sv=1&sig=hunter2"},
        {"MeterStorage": "", TABLE_ADDRESS: "https://a:hunter2@a.table.core.windows.net"},
        backends(BACKEND | {"url": "https://contoso.openai.azure.com?key=hunter2"}),
        backends(BACKEND | {"auth": {"kind": "api-key", "setting": "hunter2" * 12}}),
        backends(BACKEND | {"auth": {"kind": "api-key", "setting": "hunter2+/=="}}),
        {"METER_BACKEND_TOKEN_SCOPE": "https://a:hunter2@cognitiveservices.azure.com/.default"},
        {"METER_MONITOR_URL": "https://a:hunter2@management.azure.com"},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(changes: dict[str, str]) -> None:
    """A connection string pasted where an address belongs must not end up in a log."""
    problems = found(REQUIRED | changes)

    assert problems
    assert "hunter2" not in repr(problems)


@pytest.mark.parametrize(
    "changes",
    [
        {"MeterStorage": "UseDevelopmentStorage=true"},
        {"MeterStorage": "", "AzureWebJobsStorage": "UseDevelopmentStorage=true;"},
        {"MeterStorage": "accountname=contoso;accountkey=aGk=;endpointsuffix=core.windows.net"},
        {"MeterStorage": "TableEndpoint=https://a.table.core.windows.net/;SharedAccessSignature=s"},
        {
            "MeterStorage": "AccountName=a;AccountKey=k;TableEndpoint=http://azurite:1/devstoreaccount1"
        },
        {"EventHubConnection": f"{HUB_STRING};EntityPath=usage"},
        {"EventHubConnection": HUB_STRING.lower()},
    ],
)
def test_the_sdks_forms_of_connection_strings_are_accepted(changes: dict[str, str]) -> None:
    """The SDKs ignore the case of names, and know Azurite by a form of its own."""
    assert load_settings(REQUIRED | changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MeterStorage", "DefaultEndpointsProtocol=http;AccountName=contoso;AccountKey=k"),
        ("MeterStorage", "AccountName=contoso;AccountKey="),
        ("MeterStorage", "AccountName=Con_toso;AccountKey=k"),
        ("MeterStorage", "TableEndpoint=https://a.blob.core.windows.net;AccountKey=k"),
        ("MeterStorage", "TableEndpoint=http://a.table.core.windows.net;AccountKey=k"),
        ("EventHubConnection", "Endpoint=sb://a.blob.core.windows.net/;SharedAccessKey=k"),
        ("EventHubConnection", "Endpoint=sb://a.servicebus.windows.net:5671/;SharedAccessKey=k"),
        ("EventHubConnection", "UseDevelopmentStorage=true"),
        ("METER_MONITOR_URL", "http://management.azure.com"),
        ("METER_MONITOR_URL", "https://management.azure.com/subscriptions"),
        ("METER_RETAIL_PRICES_URL", "https://prices.azure.com/api/retail/prices"),
        ("METER_BACKEND_TOKEN_SCOPE", "https://cognitiveservices.azure.com"),
        ("METER_EVENT_HUB", "contoso/usage"),
        ("METER_SUBJECT_CLAIM", "sub,oid"),
        ("METER_NAME_CLAIMS", "name upn"),
        ("METER_NAME_CLAIMS", "name;upn"),
        ("METER_NAME_CLAIMS", '["name"]'),
        ("METER_AUDIENCES", "api://meter/.default"),
        ("METER_AUDIENCES", '["api://meter"]'),
        ("METER_ISSUERS", "https://login.example/t/.well-known/openid-configuration"),
        ("METER_ISSUERS", "https://login.example/t#x"),
        ("METER_MAX_DRAINS", "1_00"),
        ("METER_MAX_DRAINS", "1e2"),
        ("METER_REQUIRED_ROLES", "@microsoft.keyvault(VaultName=v;SecretName=s)"),
        ("METER_BACKENDS", json.dumps({"backends": [BACKEND], "defaults": {}})),
    ],
)
def test_a_value_that_cannot_work_is_refused(name: str, value: str) -> None:
    """One problem, at the setting that has it."""
    assert [problem.setting for problem in found(REQUIRED | {name: value})] == [name]


@pytest.mark.parametrize("text", ["[1]", "[[]]", '{"backends": [null]}', '{"backend": [{}]}'])
def test_one_mistake_of_the_document_is_one_problem(text: str) -> None:
    """What follows from it is not listed beside it."""
    (problem,) = found(REQUIRED | {"METER_BACKENDS": text})

    assert problem.setting == "METER_BACKENDS"


def test_a_key_that_no_header_can_carry_is_refused() -> None:
    """It would fail in every call."""
    entry = BACKEND | {"auth": {"kind": "api-key", "setting": "EU_KEY"}}

    for key in ("a b", "a\nb", "k\u00e9y"):
        (problem,) = found(REQUIRED | backends(entry) | {"EU_KEY": key})

        assert problem.text == "auth.setting names a setting whose value cannot be a key"


@pytest.mark.parametrize("text", ["@Microsoft.KeyVault(SecretUri=x)", " @microsoft.AppConfig(y)"])
def test_a_reference_is_known_by_its_beginning(text: str) -> None:
    """In any case."""
    assert is_reference(text)
    assert not is_reference("key")
    assert not is_reference(None)
