"""Where exports go: a container by its name or address, and what is no such thing."""

import pytest

from meter.config.exports import container_endpoint, container_problem, load_export_settings
from meter.config.values import AzureEndpoint

TABLES = AzureEndpoint(address="https://contoso.table.core.windows.net", client_id="me")
EMULATOR = AzureEndpoint(
    connection_string="AccountName=devstoreaccount1;AccountKey=x;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
)


@pytest.mark.parametrize(
    "text",
    [
        "exports",
        "a1-b",
        "https://contoso.blob.core.windows.net/exports",
        "https://contoso.blob.core.windows.net/exports/",
        "https://contoso.z12.blob.storage.azure.net/exports",
        "http://127.0.0.1:10000/devstoreaccount1/exports",
    ],
)
def test_a_container_is_named_or_addressed(text: str) -> None:
    """Plain http on loopback only, where the account is a part of the path."""
    assert container_problem(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Exports",
        "ab",
        "a--b",
        "-ab",
        "a/b",
        "http://contoso.blob.core.windows.net/exports",
        "https://contoso.blob.core.windows.net",
        "https://contoso.blob.core.windows.net/a/exports",
        "https://contoso.table.core.windows.net/exports",
        "https://contoso.blob.core.windows.net/exports?sv=1&sig=SECRET",
        "https://user:SECRET@contoso.blob.core.windows.net/exports",
        "AccountName=contoso;AccountKey=SECRET",
    ],
)
def test_what_is_no_container_is_a_problem(text: str) -> None:
    """Neither a signature nor a key is accepted, or repeated."""
    settings = load_export_settings({"METER_EXPORT_CONTAINER": text})
    [problem] = settings.problems

    assert problem.startswith("METER_EXPORT_CONTAINER must be a container's name")
    assert "SECRET" not in problem


def test_a_name_is_in_the_account_of_the_tables() -> None:
    """With the identity of the tables."""
    endpoint, name = container_endpoint("exports", TABLES)

    assert name == "exports"
    assert endpoint == AzureEndpoint(
        address="https://contoso.blob.core.windows.net/exports", client_id="me"
    )


def test_an_address_is_taken_as_it_is() -> None:
    """Another account's, with the same identity."""
    endpoint, name = container_endpoint("https://other.blob.core.windows.net/exports/", TABLES)

    assert (endpoint.address, name) == ("https://other.blob.core.windows.net/exports", "exports")
    assert endpoint.client_id == "me"


@pytest.mark.parametrize("text", ["exports", "http://127.0.0.1:10000/devstoreaccount1/exports"])
def test_a_connection_string_reaches_the_containers_of_its_account(text: str) -> None:
    """By name, or by an address that it has."""
    assert container_endpoint(text, EMULATOR) == (EMULATOR, "exports")


def test_azures_own_connection_string_reaches_an_address_of_its_account() -> None:
    """It has the account's name, and no address."""
    azures = AzureEndpoint(
        connection_string="DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=x;"
        "EndpointSuffix=core.windows.net"
    )
    address = "https://contoso.blob.core.windows.net/exports"

    assert container_endpoint(address, azures) == (azures, "exports")


def test_tables_at_an_unusual_address_need_the_containers_own() -> None:
    """An address behind a proxy says nothing of the blobs'."""
    with pytest.raises(ValueError, match="needs an address"):
        container_endpoint("exports", AzureEndpoint(address="http://127.0.0.1:10002/account"))
