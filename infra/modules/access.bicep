// Role assignments in this resource group: the apps', and the analysts'. One app has the rights of both halves.

@description('Principal of the front door\'s identity.')
param frontDoorPrincipalId string

@description('The front door\'s, where one app is both.')
param aggregatorPrincipalId string

@description('The aggregator is an app of its own.')
param isSeparate bool

@description('Object id of the analysts\' Entra group; empty: no assignment.')
param analystsGroupId string

@description('Name of the runtime account.')
param runtimeAccountName string

@description('Name of the aggregator\'s runtime account, where it is an app of its own.')
param aggregatorRuntimeAccountName string

@description('Name of the data account.')
param dataAccountName string

@description('Name of the Event Hubs namespace.')
param namespaceName string

@description('Name of the hub.')
param hubName string

@description('Name of the Application Insights resource.')
param appInsightsName string

var storageBlobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var storageTableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
var storageTableDataReader = '76199698-9eea-4c19-bc75-cec21354c6b6'
var eventHubsDataSender = '2b629674-e913-4c01-ae53-ef4638d8f975'
var eventHubsDataReceiver = 'a638d3c7-ab3a-418d-83e6-5f17a39d4fde'
var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource runtimeAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: runtimeAccountName
}

resource aggregatorRuntimeAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = if (isSeparate) {
  name: aggregatorRuntimeAccountName
}

resource dataAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dataAccountName
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' existing = {
  parent: dataAccount
  name: 'default'
}

resource outboxTable 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' existing = {
  parent: tables
  name: 'Outbox'
}

resource namespace 'Microsoft.EventHub/namespaces@2026-01-01' existing = {
  name: namespaceName
}

resource hub 'Microsoft.EventHub/namespaces/eventhubs@2026-01-01' existing = {
  parent: namespace
  name: hubName
}

resource appInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: appInsightsName
}

// The host's leases, checkpoints and keys, and the deployed package.
resource frontDoorOwnsRuntimeBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(runtimeAccount.id, frontDoorPrincipalId, storageBlobDataOwner)
  scope: runtimeAccount
  properties: {
    principalId: frontDoorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataOwner)
  }
}

// An account of its own, so that the front door cannot touch checkpoints.
resource aggregatorOwnsRuntimeBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isSeparate) {
  name: guid(aggregatorRuntimeAccount.id, aggregatorPrincipalId, storageBlobDataOwner)
  scope: aggregatorRuntimeAccount
  properties: {
    principalId: aggregatorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataOwner)
  }
}

// On the account, not on single tables: the app creates and drops a ledger table every month.
resource aggregatorWritesTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(dataAccount.id, aggregatorPrincipalId, storageTableDataContributor)
  scope: dataAccount
  properties: {
    principalId: aggregatorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageTableDataContributor)
  }
}

resource frontDoorWritesOutbox 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isSeparate) {
  name: guid(outboxTable.id, frontDoorPrincipalId, storageTableDataContributor)
  scope: outboxTable
  properties: {
    principalId: frontDoorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageTableDataContributor)
  }
}

// On the account: callers' own usage is in five tables, and /readyz lists tables.
resource frontDoorReadsTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isSeparate) {
  name: guid(dataAccount.id, frontDoorPrincipalId, storageTableDataReader)
  scope: dataAccount
  properties: {
    principalId: frontDoorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageTableDataReader)
  }
}

resource frontDoorSendsEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hub.id, frontDoorPrincipalId, eventHubsDataSender)
  scope: hub
  properties: {
    principalId: frontDoorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', eventHubsDataSender)
  }
}

resource aggregatorReceivesEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hub.id, aggregatorPrincipalId, eventHubsDataReceiver)
  scope: hub
  properties: {
    principalId: aggregatorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', eventHubsDataReceiver)
  }
}

resource frontDoorPublishesTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(appInsights.id, frontDoorPrincipalId, monitoringMetricsPublisher)
  scope: appInsights
  properties: {
    principalId: frontDoorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

resource aggregatorPublishesTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isSeparate) {
  name: guid(appInsights.id, aggregatorPrincipalId, monitoringMetricsPublisher)
  scope: appInsights
  properties: {
    principalId: aggregatorPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

resource analystsReadTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(analystsGroupId)) {
  name: guid(dataAccount.id, analystsGroupId, storageTableDataReader)
  scope: dataAccount
  properties: {
    principalId: analystsGroupId
    principalType: 'Group'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageTableDataReader)
  }
}
