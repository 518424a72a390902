// The Event Hubs namespace without keys, its one hub for usage events, and optional Capture.

import { publicAccessType, tagsType } from '../types.bicep'

@description('Name of the Event Hubs namespace.')
param namespaceName string

@description('Name of the hub.')
param hubName string

@description('Region.')
param location string

@description('Tags of the resources.')
param tags tagsType

@description('Partitions of the hub.')
param partitions int

@description('Throughput units.')
param throughputUnits int

@description('Upper limit of auto-inflate.')
param maximumThroughputUnits int

@description('Also write every event to a blob container.')
param captureEnabled bool

@description('Name of the account that Capture writes to.')
param captureAccountName string

@description('Name of the container that Capture writes to.')
param captureContainerName string

@description('Who may reach the namespace by its public address.')
param publicAccess publicAccessType

@description('Name of the Log Analytics workspace.')
param workspaceName string

var publicNetworkAccess = publicAccess.isOpen || !empty(publicAccess.addresses) ? 'Enabled' : 'Disabled'
var canGrow = maximumThroughputUnits > throughputUnits

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

// Capture writes as the namespace itself, so the namespace has an identity only with Capture.
resource namespace 'Microsoft.EventHub/namespaces@2026-01-01' = {
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
    publicNetworkAccess: publicNetworkAccess
    isAutoInflateEnabled: canGrow
    maximumThroughputUnits: canGrow ? maximumThroughputUnits : 0
  }
}

resource networkRules 'Microsoft.EventHub/namespaces/networkRuleSets@2026-01-01' = {
  parent: namespace
  name: 'default'
  properties: {
    publicNetworkAccess: publicNetworkAccess
    defaultAction: publicAccess.isOpen ? 'Allow' : 'Deny'
    trustedServiceAccessEnabled: false
    ipRules: [
      for address in publicAccess.addresses: {
        action: 'Allow'
        ipMask: address
      }
    ]
  }
}

resource captureAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = if (captureEnabled) {
  name: captureAccountName
}

module captureAccess 'capture-access.bicep' = if (captureEnabled) {
  params: {
    accountName: captureAccountName
    containerName: captureContainerName
    #disable-next-line what-if-short-circuiting // a namespace made anew has another principal, and the assignment another name
    namespacePrincipalId: captureEnabled ? namespace.identity.principalId : ''
  }
}

resource hub 'Microsoft.EventHub/namespaces/eventhubs@2026-01-01' = {
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
resource aggregatorGroup 'Microsoft.EventHub/namespaces/eventhubs/consumergroups@2026-01-01' = {
  parent: hub
  name: 'aggregator'
}

@description('The consumer group for other readers.')
resource auditGroup 'Microsoft.EventHub/namespaces/eventhubs/consumergroups@2026-01-01' = {
  parent: hub
  name: 'audit'
}

#disable-next-line use-recent-api-versions // the only other version lacks category groups and metrics of their own
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: namespace
  properties: {
    workspaceId: workspace.id
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
