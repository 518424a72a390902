"""Where Event Hubs and storage are: a connection string, or an address and an identity."""

from datetime import timedelta

import pytest

from meter.config.addresses import has_blobs_at
from meter.config.environment import event_hub_name, load_settings, load_storage_settings
from meter.config.values import AzureEndpoint
from meter.errors import InvalidSettings
from tests.unit.config.test_environment import REQUIRED

CONNECTION = REQUIRED["MeterStorage"]


def test_services_are_addressed_with_an_identity_or_a_connection_string() -> None:
    """`__fullyQualifiedNamespace`, `__tableServiceUri` and `__clientId`."""
    settings = {
        k: v for k, v in REQUIRED.items() if k not in {"EventHubConnection", "MeterStorage"}
    }
    loaded = load_settings(
        settings
        | {
            "EventHubConnection__fullyQualifiedNamespace": "hub.servicebus.windows.net",
            "EventHubConnection__clientId": "hub-client",
            "MeterStorage__tableServiceUri": "https://a.table.core.windows.net",
            "AZURE_CLIENT_ID": "client",
        }
    )

    assert loaded.hub.endpoint == AzureEndpoint(
        address="hub.servicebus.windows.net", client_id="hub-client"
    )
    assert loaded.storage.endpoint == AzureEndpoint(
        address="https://a.table.core.windows.net", client_id="client"
    )


def test_storage_falls_back_to_the_hosts_own() -> None:
    """`AzureWebJobsStorage`, where `MeterStorage` is not set."""
    hosts = {"AzureWebJobsStorage": CONNECTION}
    loaded = [load_storage_settings(hosts | own) for own in ({}, {"MeterStorage": ""})]

    assert [one.endpoint.connection_string for one in loaded] == [CONNECTION, CONNECTION]


def test_the_hub_and_the_storage_have_their_defaults() -> None:
    """The hub is `usage`; calls are kept apart for 100 days."""
    settings = load_settings(REQUIRED)

    assert (settings.hub.name, settings.storage.retention) == ("usage", timedelta(days=100))


def test_the_hubs_name_is_known_before_settings_are_checked() -> None:
    """The Functions host needs it to index the trigger."""
    assert [event_hub_name({}), event_hub_name({"METER_EVENT_HUB": "x"})] == ["usage", "x"]


@pytest.mark.parametrize("text", ["nonsense", "DefaultEndpointsProtocol=https", "AccountKey=x"])
def test_a_connection_string_that_is_none_is_a_problem(text: str) -> None:
    """It is told with the other problems, and not shown: it may hold a key."""
    with pytest.raises(InvalidSettings) as refusal:
        load_storage_settings({"MeterStorage": text})

    assert refusal.value.problems == (
        "MeterStorage is not a connection string: Name=value pairs, separated by ;",
    )


@pytest.mark.parametrize(
    ("connection_string", "url"),
    [
        (
            "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=x;"
            "EndpointSuffix=core.windows.net",
            "https://contoso.blob.core.windows.net",
        ),
        ("AccountName=contoso;AccountKey=x", "https://Contoso.blob.core.windows.net/"),
        (
            "accountname=contoso;accountkey=x;endpointsuffix=core.chinacloudapi.cn",
            "https://contoso.blob.core.chinacloudapi.cn",
        ),
        (
            "AccountName=a;AccountKey=x;BlobEndpoint=https://a.z1.blob.storage.azure.net/;",
            "https://a.z1.blob.storage.azure.net",
        ),
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1"),
    ],
)
def test_a_connection_string_says_where_its_accounts_blobs_are(
    connection_string: str, url: str
) -> None:
    """Azure's own has no BlobEndpoint; names and hosts are of any case."""
    assert has_blobs_at(connection_string, url)


@pytest.mark.parametrize(
    ("connection_string", "url"),
    [
        ("AccountName=contoso;AccountKey=x", "https://other.blob.core.windows.net"),
        ("AccountName=contoso;AccountKey=x", "https://contoso.blob.core.chinacloudapi.cn"),
        (
            "AccountName=a;AccountKey=x;BlobEndpoint=http://127.0.0.1:10000/account10;",
            "http://127.0.0.1:10000/account1",
        ),
        (
            "TableEndpoint=https://contoso.table.core.windows.net;SharedAccessSignature=s",
            "https://contoso.blob.core.windows.net",
        ),
    ],
)
def test_another_accounts_blobs_are_not_reached_with_a_connection_string(
    connection_string: str, url: str
) -> None:
    """Its key would be refused there."""
    assert not has_blobs_at(connection_string, url)
