// A virtual network for the apps and their private endpoints, and the private zones that name these.

import { tagsType } from '../types.bicep'

@description('Name of the resource.')
param name string

@description('Region.')
param location string

@description('Tags of the resources.')
param tags tagsType

@description('At least a /25: three subnets are cut from it.')
param addressPrefix string

@description('Name of the front door\'s subnet.')
param appSubnetName string

@description('Name of the aggregator\'s subnet.')
param aggregatorSubnetName string

@description('Name of the private endpoints\' subnet.')
param endpointSubnetName string

@description('Names of the private DNS zones.')
param zoneNames string[]

// Flex Consumption's subnets are at least a /27, delegated so, and used by nothing else.
var delegations = [
  {
    name: 'flex-consumption'
    properties: {
      serviceName: 'Microsoft.App/environments'
    }
  }
]

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressPrefix
      ]
    }
    // Within the network's resource: subnets of their own would be made one after the other, and removed by a redeployment.
    subnets: [
      {
        name: appSubnetName
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 27, 0)
          delegations: delegations
        }
      }
      {
        name: aggregatorSubnetName
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 27, 1)
          delegations: delegations
        }
      }
      {
        name: endpointSubnetName
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 27, 2)
          privateEndpointNetworkPolicies: 'Disabled'
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zone in zoneNames: {
    name: zone
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (zone, i) in zoneNames: {
    parent: zones[i]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: network.id
      }
    }
  }
]
