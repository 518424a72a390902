// The one identity an app uses for everything: storage, Event Hubs, Azure OpenAI, App Insights.

import { tagsType } from '../types.bicep'

@description('Name of the resource.')
param name string

@description('Region.')
param location string

@description('Tags of the resources.')
param tags tagsType

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

@description('Client id, for settings.')
output clientId string = identity.properties.clientId

@description('Principal, for role assignments.')
output principalId string = identity.properties.principalId
