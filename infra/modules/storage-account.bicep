// A storage account without keys or public blobs, with its containers and tables; one for the runtime, one for data.

import { publicAccessType, tagsType } from '../types.bicep'

@description('Name of the resource.')
param name string

@description('Region.')
param location string

@description('Tags of the resources.')
param tags tagsType

@description('Redundancy.')
param skuName string

@description('Blob containers to create.')
param containers string[] = []

@description('Tables to create. The app creates the monthly ledger tables itself.')
param tables string[] = []

@description('Lock the account against deletion. Rows and tables can still be deleted.')
param deleteLock bool = false

@description('Who may reach the account by its public address.')
param publicAccess publicAccessType

@description('Let services of Azure in that act as an identity with a role here: Event Hubs, for Capture.')
param letsAzureServicesIn bool = false

@description('Name of the Log Analytics workspace.')
param workspaceName string

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: skuName
  }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicAccess.isOpen || !empty(publicAccess.addresses) ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: publicAccess.isOpen ? 'Allow' : 'Deny'
      bypass: letsAzureServicesIn ? 'AzureServices' : 'None'
      ipRules: [
        for address in publicAccess.addresses: {
          action: 'Allow'
          value: replace(address, '/32', '') // storage refuses /32
        }
      ]
    }
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource blobContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for container in containers: {
    parent: blobService
    name: container
    properties: {
      publicAccess: 'None'
    }
  }
]

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource serviceTables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = [
  for table in tables: {
    parent: tableService
    name: table
  }
]

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (deleteLock) {
  name: 'keep-usage-data'
  scope: account
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds the usage ledger. Remove this lock only to delete the meter for good.'
  }
}

// Deletions only: a log line per table write would cost more than the write.
#disable-next-line use-recent-api-versions // the only other version lacks category groups and metrics of their own
resource blobDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: blobService
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'Transaction'
        enabled: true
      }
    ]
  }
}

#disable-next-line use-recent-api-versions // the only other version lacks category groups and metrics of their own
resource tableDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: tableService
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'Transaction'
        enabled: true
      }
    ]
  }
}
