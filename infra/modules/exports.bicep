// Who writes and reads the container of exports, and what becomes of old files.

@description('Principal of the app\'s identity.')
param appPrincipalId string

@description('Object id of the analysts\' Entra group; empty: no assignment.')
param analystsGroupId string

@description('Name of the account.')
param accountName string

@description('Name of the container.')
param containerName string

@description('Days after its last change until a file moves to the cool tier; 0: never.')
param coolAfterDays int

@description('Days after its last change until a file is deleted; 0: never.')
param deleteAfterDays int

var storageBlobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var storageBlobDataReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: account
  name: 'default'
}

resource exportContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobService
  name: containerName
}

// On the container, not on the account: the app has no business with captured events.
resource appWritesExports 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(exportContainer.id, appPrincipalId, storageBlobDataContributor)
  scope: exportContainer
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
  }
}

resource analystsReadExports 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(analystsGroupId)) {
  name: guid(exportContainer.id, analystsGroupId, storageBlobDataReader)
  scope: exportContainer
  properties: {
    principalId: analystsGroupId
    principalType: 'Group'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataReader)
  }
}

// The account has one policy, so its rules stand here together. The manifest changes every night, so it is never old.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'exports'
          type: 'Lifecycle'
          enabled: coolAfterDays > 0 || deleteAfterDays > 0 // a rule that was left out would stay as it was
          definition: {
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${containerName}/v1/'
              ]
            }
            actions: {
              // A rule has an action, also one that is off.
              baseBlob: union(
                coolAfterDays > 0 || deleteAfterDays == 0
                  ? { tierToCool: { daysAfterModificationGreaterThan: coolAfterDays > 0 ? coolAfterDays : 99999 } }
                  : {},
                deleteAfterDays > 0 ? { delete: { daysAfterModificationGreaterThan: deleteAfterDays } } : {}
              )
            }
          }
        }
      ]
    }
  }
}
