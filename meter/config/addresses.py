"""Checks the addresses of Azure services: each setting takes one kind, told apart by the host.

| service       | host                                                                              |
|---------------|-----------------------------------------------------------------------------------|
| Event Hubs    | `NAMESPACE.servicebus.windows.net` (`.usgovcloudapi.net`, `.chinacloudapi.cn`)    |
| Table Storage | `ACCOUNT.table.core.windows.net`, `ACCOUNT.ZONE.table.storage.azure.net`          |
| Azure OpenAI  | `ACCOUNT.openai.azure.com`, `.cognitiveservices.`, `.services.ai.`, or an unknown |

Loopback hosts are accepted for all of them. Azure accepts identities only on an account's own host.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from meter.config.reader import Reader
from meter.config.values import PUBLIC_CLOUD_SCOPE, AzureEndpoint
from meter.gateway.address import is_allowed_url, is_loopback
from meter.patterns import lazy_pattern

_HOST = lazy_pattern(r"[a-z0-9-]+(\.[a-z0-9-]+)*(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_AZURE = lazy_pattern(
    r".*\.(windows\.net|azure\.net|azure\.(com|us|cn)|usgovcloudapi\.net|chinacloudapi\.cn)"
)
# Other services, none of which is an AOAI account: by the second or third label of a host in Azure's
# domains, by the end of a host, or by the whole of it.
_BY_LABEL = {
    **dict.fromkeys(("blob", "dfs", "file", "queue", "table", "web"), "Azure Storage"),
    **dict.fromkeys(("vault", "managedhsm"), "Key Vault"),
    "cache": "Azure Cache for Redis",
    "database": "Azure SQL",
    "documents": "Azure Cosmos DB",
    "eventgrid": "Event Grid",
    "search": "Azure AI Search",
    "servicebus": "Event Hubs or Service Bus",
}
_BY_END = {
    **dict.fromkeys(
        (".azurewebsites.net", ".azurewebsites.us", ".chinacloudsites.cn"), "App Service"
    ),
    **dict.fromkeys((".azurecr.io", ".azurecr.us", ".azurecr.cn"), "Container Registry"),
    ".azconfig.io": "App Configuration",
}
_BY_HOST = {
    **dict.fromkeys(("ai.azure.com", "oai.azure.com", "ml.azure.com"), "the Foundry portal"),
    **dict.fromkeys(("portal.azure.com", "portal.azure.us", "portal.azure.cn"), "the Azure portal"),
    **dict.fromkeys(
        (
            "management.azure.com",
            "management.usgovcloudapi.net",
            "management.chinacloudapi.cn",
        ),
        "Azure Resource Manager",
    ),
    **dict.fromkeys(
        (
            "login.microsoftonline.com",
            "login.microsoftonline.us",
            "login.partner.microsoftonline.cn",
            "login.windows.net",
            "sts.windows.net",
        ),
        "Entra ID",
    ),
    **dict.fromkeys(
        (
            f"{service}.azure.{top}"
            for service in ("openai", "cognitiveservices", "services.ai")
            for top in ("com", "us", "cn")
        ),
        "no account, since the account's name is missing",
    ),
    "graph.microsoft.com": "Microsoft Graph",
    "api.openai.com": "OpenAI",
}
_SHARED_HOST = ".api.cognitive.microsoft."
# Members of connection strings, in small letters: Azure's SDKs ignore the case.
_SECRETS = frozenset({"accountkey", "sharedaccesskey", "sharedaccesssignature"})
_PLACES = {"tableendpoint": "TableEndpoint", "accountname": "AccountName", "endpoint": "Endpoint"}
_DEVELOPMENT_BLOBS = "http://127.0.0.1:10000/devstoreaccount1"  # of Azurite, by its documentation
_ACCOUNT = lazy_pattern(r"[a-z0-9]{1,24}", re.ASCII)


class _Service(Struct, frozen=True, kw_only=True):
    """A service to which a setting refers."""

    address_name: str
    places: frozenset[str]  # members of a connection string, one of which says where it is


_HUB = _Service(address_name="fullyQualifiedNamespace", places=frozenset({"endpoint"}))
_TABLES = _Service(
    address_name="tableServiceUri", places=frozenset({"tableendpoint", "accountname"})
)


def read_hub_endpoint(reader: Reader, hub_name: str) -> AzureEndpoint:
    """The Event Hubs namespace. Problems are reported."""
    setting = "EventHubConnection"
    endpoint = _endpoint(reader, setting, _HUB)
    if endpoint.connection_string is not None:
        named = _members(endpoint.connection_string).get("entitypath", hub_name)
        if named != hub_name:
            reader.problem(
                setting,
                "is of another hub than METER_EVENT_HUB names",
                f"{named!r} and {hub_name!r}",
            )
    elif endpoint.address is not None and not _is_namespace(endpoint.address):
        reader.problem(
            f"{setting}__{_HUB.address_name}",
            "must be a namespace's host name, for example contoso.servicebus.windows.net",
            f"got {shown(endpoint.address)}",
        )
    return endpoint


def read_table_endpoint(reader: Reader, setting: str) -> AzureEndpoint:
    """The storage account of the tables. Problems are reported."""
    endpoint = _endpoint(reader, setting, _TABLES)
    address = endpoint.address
    is_used = endpoint.connection_string is None and address is not None
    if is_used and not _is_table_address(address or ""):
        reader.problem(
            f"{setting}__{_TABLES.address_name}",
            "must be the address of an account's tables, for example "
            "https://contoso.table.core.windows.net",
            f"got {shown(address or '')}",
        )
    return endpoint


def read_token_scope(reader: Reader) -> str:
    """The scope of the identity's tokens for backends. Problems are reported."""
    setting = "METER_BACKEND_TOKEN_SCOPE"
    scope = reader.text(setting, PUBLIC_CLOUD_SCOPE)
    is_url = scope.startswith("https://") and is_allowed_url(scope)
    if not is_url or any(mark.isspace() for mark in scope):
        reader.problem(setting, f"must be one https URL, got {shown(scope)}")
    elif not scope.endswith("/.default"):
        reader.problem(setting, f"must end with /.default, for example {PUBLIC_CLOUD_SCOPE}")
    return scope


def read_service_url(reader: Reader, setting: str, default: str) -> str:
    """The address of one of Azure's services, which has no path. Problems are reported."""
    url = reader.text(setting, default).rstrip("/")
    if not is_allowed_url(url) or "?" in url or "#" in url:
        reader.problem(setting, "must be an https url; plain http is accepted on loopback only")
    elif urlsplit(url).path:
        reader.problem(setting, f"must have no path, for example {default}")
    return url


def has_blobs_at(connection_string: str, account_url: str) -> bool:
    """Whether a connection string is of the account whose blobs have that address.

    The one that Azure shows has no BlobEndpoint, but the account's name.
    """
    members = _members(connection_string)
    if members.get("usedevelopmentstorage", "").lower() == "true":
        url = _DEVELOPMENT_BLOBS
    else:
        suffix = members.get("endpointsuffix", "core.windows.net")
        usual = f"https://{members.get('accountname', '')}.blob.{suffix}"
        url = members.get("blobendpoint", usual)
    return url.rstrip("/").lower() == account_url.rstrip("/").lower()


def shown(address: str) -> str:
    """An address as a problem may show it: without user, query, or a connection string's members."""
    text = re.split(r"[?#;]", address.rpartition("@")[2])[0]
    return "a connection string" if "=" in text else repr(text)


def account_url_problem(url: str, *, has_identity: bool) -> str | None:
    """Why a URL cannot be an AOAI account's; None when it can.

    `has_identity`: the gateway authenticates with its identity, not with a key.
    """
    if not is_allowed_url(url) or "?" in url or "#" in url:
        return "must be https (plain http on loopback only) without a user or a query"
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.path.rstrip("/") not in {"", "/openai", "/openai/v1"}:
        return "must be the account's address alone, without a path"
    if (other := _other_service(host)) is not None:
        return f"must be an Azure OpenAI account's; this host is of {other}"
    if _SHARED_HOST in host and has_identity:
        return "must be the account's own host, since a region's host accepts keys only"
    return None


def _other_service(host: str) -> str | None:
    """The service to which a host belongs; None where it may be an account's, or a proxy's."""
    labels = host.split(".")[1:3] if _AZURE.fullmatch(host) else []
    by_label = [_BY_LABEL[label] for label in labels if label in _BY_LABEL]
    by_end = [service for end, service in _BY_END.items() if host.endswith(end)]
    return next(iter([*by_label, *by_end]), _BY_HOST.get(host))


def _endpoint(reader: Reader, setting: str, service: _Service) -> AzureEndpoint:
    connection_string = reader.text(setting) or None
    if connection_string is not None:
        problem = _connection_problem(service, _members(connection_string))
        if problem is not None:
            reader.problem(setting, problem)
    address = reader.text(f"{setting}__{service.address_name}") or None
    if connection_string is None and address is None:
        reader.problem(setting, f"is not set, nor is {setting}__{service.address_name}")
    return AzureEndpoint(
        connection_string=connection_string,
        address=address,
        client_id=reader.text(f"{setting}__clientId", reader.text("AZURE_CLIENT_ID")) or None,
    )


def _connection_problem(service: _Service, members: Mapping[str, str]) -> str | None:
    if members.get("usedevelopmentstorage", "").lower() == "true":
        return None if service is _TABLES else "is of storage; it must be of Event Hubs"
    if _SECRETS.isdisjoint(members) or (_HUB.places | _TABLES.places).isdisjoint(members):
        return "is not a connection string: Name=value pairs, separated by ;"
    is_sb = members.get("endpoint", "").lower().startswith("sb://")
    if service.places.isdisjoint(members) or (service is _HUB and not is_sb):
        places = sorted(_PLACES[place] for place in service.places)
        return f"is a connection string of another service: it needs {' or '.join(places)}"
    return _hub_problem(members) if service is _HUB else _storage_problem(members)


def _hub_problem(members: Mapping[str, str]) -> str | None:
    host = members["endpoint"][len("sb://") :].rstrip("/").lower()
    if _AZURE.fullmatch(host.partition(":")[0]) and not _is_namespace(host):
        return "needs a namespace's Endpoint, for example sb://contoso.servicebus.windows.net/"
    return None


def _storage_problem(members: Mapping[str, str]) -> str | None:
    endpoint, name = members.get("tableendpoint"), members.get("accountname", "")
    if endpoint is not None:
        if not _is_table_address(endpoint) and not endpoint.rstrip("/").endswith(
            "/devstoreaccount1"
        ):
            return "needs an account's TableEndpoint, for example https://contoso.table.core.windows.net"
    elif not _ACCOUNT.fullmatch(name):
        return "needs an AccountName of small letters and digits, for example contoso"
    elif members.get("defaultendpointsprotocol", "https").lower() != "https":
        return "needs DefaultEndpointsProtocol=https; plain http is accepted on loopback only"
    if "sharedaccesssignature" not in members and not members.get("accountkey"):
        return "needs an AccountKey or a SharedAccessSignature"
    return None


def _members(connection_string: str) -> Mapping[str, str]:
    pairs = (part.partition("=") for part in connection_string.split(";") if part.strip())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _is_namespace(text: str) -> bool:
    host, _, port = text.lower().partition(":")
    is_one = is_loopback(host) or (".servicebus." in host and not port)
    return is_one and bool(_HOST.fullmatch(text))


def _is_table_address(url: str) -> bool:
    if not is_allowed_url(url) or "?" in url or "#" in url:
        return False
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_azure = "table" in host.lower().split(".")[1:3] and parts.path in {"", "/"}
    return is_loopback(host) or is_azure
