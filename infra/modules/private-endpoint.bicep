// A private endpoint for one part of a resource, and its record in a private zone.

import { tagsType } from '../types.bicep'

@description('Name of the resource.')
param name string

@description('Region.')
param location string

@description('Tags of the resources.')
param tags tagsType

@description('Id of the endpoint\'s subnet.')
param subnetId string

@description('Id of the resource.')
param targetId string

@description('Part of the resource.')
param groupId 'blob' | 'table' | 'namespace' | 'sites'

@description('Id of the zone; empty: no record.')
param zoneId string

resource endpoint 'Microsoft.Network/privateEndpoints@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: groupId
        properties: {
          privateLinkServiceId: targetId
          groupIds: [
            groupId
          ]
        }
      }
    ]
  }
}

resource record 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = if (!empty(zoneId)) {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: groupId
        properties: {
          privateDnsZoneId: zoneId
        }
      }
    ]
  }
}
