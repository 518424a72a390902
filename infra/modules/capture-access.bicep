// The role assignment with which the namespace's own identity writes Capture's blobs.
// A module of its own: its name needs the principal id, since a namespace made anew has another one.

@description('Name of the account.')
param accountName string

@description('Name of the container.')
param containerName string

@description('Principal of the namespace\'s identity.')
param namespacePrincipalId string

var storageBlobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: accountName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: account
  name: 'default'
}

resource captureContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: containerName
}

resource captureWriter 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(captureContainer.id, namespacePrincipalId, storageBlobDataContributor)
  scope: captureContainer
  properties: {
    principalId: namespacePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
  }
}
