// A function app on Flex Consumption, and its plan, which can have no other; every connection uses identity.

import { alwaysReadyType, publicAccessType, restrictionType, settingsType, tagsType } from '../types.bicep'

@description('Name of the resource.')
param name string

@description('Name of the plan.')
param planName string

@description('Region.')
param location string

@description('Tags of the resources.')
param tags tagsType

@description('Name of the app\'s identity.')
param identityName string

@description('Client id of the identity.')
param identityClientId string

@description('Name of the runtime account.')
param runtimeAccountName string

@description('Name of the container of the deployed package.')
param deploymentContainer string

@description('Table address of the data account.')
param dataTableEndpoint string

@description('Host name of the Event Hubs namespace.')
param eventHubNamespace string

@description('Where to send telemetry.')
param appInsightsConnectionString string

@description('METER_* and other app settings by name.')
param settings settingsType

@description('Memory of one instance in MB.')
param instanceMemoryMB int

@description('Maximum number of on-demand instances per scale group.')
param maximumInstanceCount int

@description('Concurrent calls per instance.')
param httpPerInstanceConcurrency int

@description('Always-ready instances.')
param alwaysReady alwaysReadyType[]

@description('Spread instances over zones.')
param isZoneRedundant bool

@description('Id of the subnet through which the app\'s own calls go; empty: none.')
param subnetId string

@description('Who may call the app by its public address.')
param publicAccess publicAccessType

@description('Who may publish code to it, by the same address.')
param publishAccess publicAccessType

@description('Name of the Log Analytics workspace.')
param workspaceName string

var suffix = environment().suffixes.storage
var runtimeBlobEndpoint = 'https://${runtimeAccountName}.blob.${suffix}/'

// Of two equal names the later one wins: no setting can replace these.
var appSettings = union(settings, {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  AzureWebJobsStorage__blobServiceUri: runtimeBlobEndpoint
  AzureWebJobsStorage__queueServiceUri: 'https://${runtimeAccountName}.queue.${suffix}/'
  AzureWebJobsStorage__tableServiceUri: 'https://${runtimeAccountName}.table.${suffix}/'
  EventHubConnection__fullyQualifiedNamespace: eventHubNamespace
  EventHubConnection__credential: 'managedidentity'
  EventHubConnection__clientId: identityClientId
  MeterStorage__tableServiceUri: dataTableEndpoint
  MeterStorage__credential: 'managedidentity'
  MeterStorage__clientId: identityClientId
  AZURE_CLIENT_ID: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: appInsightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
})

@description('Rules for the addresses that may pass.')
func rules(addresses string[]) restrictionType[] =>
  map(addresses, (address, i) => {
    name: 'allowed-${i}'
    action: 'Allow'
    priority: 100 + i
    ipAddress: contains(address, '/') ? address : '${address}/32'
  })

// Nothing is said where everybody may: it is the default.
var callers = publicAccess.isOpen
  ? {}
  : {
      ipSecurityRestrictionsDefaultAction: 'Deny'
      ipSecurityRestrictions: rules(publicAccess.addresses)
    }
var publishers = publishAccess.isOpen
  ? {}
  : {
      scmIpSecurityRestrictionsUseMain: false
      scmIpSecurityRestrictionsDefaultAction: 'Deny'
      scmIpSecurityRestrictions: rules(publishAccess.addresses)
    }

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true // Linux
    zoneRedundant: isZoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: publicAccess.isOpen || publishAccess.isOpen || !empty(publishAccess.addresses)
      ? 'Enabled'
      : 'Disabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    keyVaultReferenceIdentity: identity.id
    // Closes /admin to everyone, the master key included. The published types lack the property.
    #disable-next-line BCP037
    functionsRuntimeAdminIsolationEnabled: true
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ...callers
      ...publishers
      appSettings: map(items(appSettings), setting => { name: setting.key, value: setting.value })
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${runtimeBlobEndpoint}${deploymentContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReady
        triggers: {
          http: {
            perInstanceConcurrency: httpPerInstanceConcurrency
          }
        }
      }
    }
  }
}

resource ftpPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource scmPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

// A second, unsampled copy of the app's log: it contains events that could not be published anywhere.
#disable-next-line use-recent-api-versions // the only other version lacks category groups and metrics of their own
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: app
  properties: {
    workspaceId: workspace.id
    logs: [
      {
        category: 'FunctionAppLogs'
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

@description('Address of the app.')
output url string = 'https://${app.properties.defaultHostName}'
