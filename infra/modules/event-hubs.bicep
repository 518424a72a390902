// The Event Hubs namespace without keys, its one hub for usage events, and optional Capture.

param namespaceName string
param hubName string
param location string
param tags object
param partitions int
param throughputUnits int
param maximumThroughputUnits int

@description('Also write every event to a blob container.')
param captureEnabled bool

param captureAccountName string
param captureContainerName string
param workspaceId string

var canGrow = maximumThroughputUnits > throughputUnits

// Capture writes as the namespace itself, so the namespace has an identity only with Capture.
resource namespace 'Microsoft.EventHub/namespaces@2024-01-01' = {
  name: namespaceName
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Standard'
    capacity: throughputUnits
  }
  identity: captureEnabled ? { type: 'SystemAssigned' } : null
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: 'Enabled'
    isAutoInflateEnabled: canGrow
    maximumThroughputUnits: canGrow ? maximumThroughputUnits : 0
  }
}

resource captureAccount 'Microsoft.Storage/storageAccounts@2023-05-01' existing = if (captureEnabled) {
  name: captureAccountName
}

module captureAccess 'capture-access.bicep' = if (captureEnabled) {
  name: 'capture-access'
  params: {
    accountName: captureAccountName
    containerName: captureContainerName
    namespacePrincipalId: captureEnabled ? namespace.identity.principalId : ''
  }
}

resource hub 'Microsoft.EventHub/namespaces/eventhubs@2024-01-01' = {
  parent: namespace
  name: hubName
  properties: {
    partitionCount: partitions
    retentionDescription: {
      cleanupPolicy: 'Delete'
      retentionTimeInHours: 168 // 7 days, the most Standard offers
    }
    captureDescription: captureEnabled
      ? {
          enabled: true
          encoding: 'Avro'
          intervalInSeconds: 300
          sizeLimitInBytes: 314572800
          skipEmptyArchives: true
          destination: {
            name: 'EventHubArchive.AzureBlockBlob'
            identity: {
              type: 'SystemAssigned'
            }
            properties: {
              storageAccountResourceId: captureAccount.id
              blobContainer: captureContainerName
              archiveNameFormat: '{Namespace}/{EventHub}/{PartitionId}/{Year}/{Month}/{Day}/{Hour}/{Minute}/{Second}'
            }
          }
        }
      : null
  }
  dependsOn: [
    captureAccess
  ]
}

@description('The consumer group of the Event Hub trigger.')
resource aggregatorGroup 'Microsoft.EventHub/namespaces/eventhubs/consumergroups@2024-01-01' = {
  parent: hub
  name: 'aggregator'
}

@description('The consumer group for other readers.')
resource auditGroup 'Microsoft.EventHub/namespaces/eventhubs/consumergroups@2024-01-01' = {
  parent: hub
  name: 'audit'
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

output namespaceName string = namespace.name
output hubName string = hub.name
output fullyQualifiedNamespace string = split(replace(namespace.properties.serviceBusEndpoint, 'https://', ''), ':')[0]
