"""With a network the deployment is closed to public addresses, and its parts still reach each other."""

from typing import Any

import pytest

from tests.infra.evaluated import Resource, deployment, short_name

ACCOUNT = "Microsoft.Storage/storageAccounts"
NAMESPACE = "Microsoft.EventHub/namespaces"
HUB_RULES = "Microsoft.EventHub/namespaces/networkRuleSets"
APP = "Microsoft.Web/sites"
ENDPOINT = "Microsoft.Network/privateEndpoints"
RECORD = "Microsoft.Network/privateEndpoints/privateDnsZoneGroups"
PLAN = "Microsoft.Web/serverfarms"


def _is_closed(resource: Resource) -> bool:
    properties = resource.properties
    rules: dict[str, Any] = properties.get("networkAcls") or properties.get("siteConfig") or {}
    action = rules.get("defaultAction", rules.get("ipSecurityRestrictionsDefaultAction", "Deny"))
    allowed = [*rules.get("ipRules", []), *rules.get("ipSecurityRestrictions", [])]
    return properties["publicNetworkAccess"] == "Disabled" and action == "Deny" and not allowed


def test_with_a_network_and_a_private_gateway_nothing_is_public() -> None:
    """Storage, Event Hubs and the app refuse public addresses, and there is no public address."""
    found = deployment("network")
    resources = [r for kind in (ACCOUNT, NAMESPACE, HUB_RULES, APP) for r in found.of(kind)]

    assert [short_name(r.name) for r in resources if not _is_closed(r)] == []
    assert found.of("Microsoft.Network/publicIPAddresses") == []
    assert len(resources) == 5


@pytest.mark.parametrize("option", ["network", "addresses"])
def test_what_is_closed_is_reached_through_private_endpoints(option: str) -> None:
    """A closed resource without an endpoint, or with one that no zone names, could not be reached."""
    found = deployment(option)
    reached = {
        (
            short_name(link["properties"]["privateLinkServiceId"].rsplit("/", 1)[-1]),
            *link["properties"]["groupIds"],
        )
        for endpoint in found.of(ENDPOINT)
        for link in endpoint.properties["privateLinkServiceConnections"]
    }
    own = {("meterra", "blob")} if option == "addresses" else {("meter-func", "sites")}

    assert reached == own | {
        ("meterrt", "blob"),
        ("meterda", "blob"),
        ("meterda", "table"),
        ("meter-eh", "namespace"),
    }


def test_every_private_endpoint_has_its_record_in_a_zone_of_the_network() -> None:
    """Without it the name leads to the public address, which is closed."""
    found = deployment("network")
    zones = {zone.id.lower() for zone in found.of("Microsoft.Network/privateDnsZones")}
    linked = {
        link.id.lower().split("/virtualnetworklinks/")[0]
        for link in found.of("Microsoft.Network/privateDnsZones/virtualNetworkLinks")
    }
    records = {
        record.name.split("/")[0]: config["properties"]["privateDnsZoneId"].lower()
        for record in found.of(RECORD)
        for config in record.properties["privateDnsZoneConfigs"]
    }

    assert records.keys() == {endpoint.name for endpoint in found.of(ENDPOINT)}
    assert set(records.values()) == zones == linked


def test_the_apps_call_through_a_delegated_subnet_of_their_own() -> None:
    """Flex Consumption wants a /27 for Microsoft.App/environments that nothing else uses."""
    found = deployment("network")
    [network] = found.of("Microsoft.Network/virtualNetworks")
    subnets = {each["name"]: each["properties"] for each in network.properties["subnets"]}
    [app] = found.of(APP)
    name = app.properties["virtualNetworkSubnetId"].rsplit("/", 1)[-1]
    [delegation] = subnets[name]["delegations"]

    assert delegation["properties"]["serviceName"] == "Microsoft.App/environments"
    assert subnets[name]["addressPrefix"] == "10.90.0.0/27"
    assert not any(e.properties["subnet"]["id"].endswith(f"/{name}") for e in found.of(ENDPOINT))


def test_allowed_addresses_reach_the_data_and_the_hub_alone() -> None:
    """What operators and analysts need; a runtime account is the host's own."""
    found = deployment("addresses")
    accounts = {short_name(each.name): each.properties for each in found.of(ACCOUNT)}
    [rules] = found.of(HUB_RULES)

    assert [r["value"] for r in accounts["meterda"]["networkAcls"]["ipRules"]] == [
        "203.0.113.7",
        "198.51.100.0/24",
    ]
    assert accounts["meterda"]["networkAcls"]["defaultAction"] == "Deny"
    assert [r["ipMask"] for r in rules.properties["ipRules"]] == ["203.0.113.7", "198.51.100.0/24"]
    assert rules.properties["defaultAction"] == "Deny"
    assert accounts["meterrt"]["publicNetworkAccess"] == "Disabled"
    assert accounts["meterra"]["publicNetworkAccess"] == "Disabled"


def test_zone_redundancy_holds_for_all_that_keeps_state() -> None:
    """One account in one zone would stop the app with that zone."""
    found = deployment("two-apps")

    assert [plan.properties["zoneRedundant"] for plan in found.of(PLAN)] == [True, True]
    assert {each.body["sku"]["name"] for each in found.of(ACCOUNT)} == {"Standard_ZRS"}
