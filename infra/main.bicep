// The whole deployment of the meter into one resource group: see docs/deployment.md.
targetScope = 'resourceGroup'

// -- types --

@description('One Azure OpenAI backend: an entry of METER_BACKENDS, and the location of its account for the role assignment.')
type backendType = {
  @description('Name of the backend in usage events, logs and metrics.')
  name: string

  @description('Endpoint, e.g. https://contoso-eus.openai.azure.com/')
  url: string

  @description('Backends with the lowest number are tried first.')
  @minValue(1)
  priority: int

  @description('Share of the calls within one priority.')
  @minValue(1)
  @maxValue(100)
  weight: int

  @description('How Azure bills the deployments of this backend.')
  tier: 'provisioned' | 'standard'

  @description('Azure region of the account, e.g. swedencentral.')
  region: string?

  @description('Where Azure may process the calls; a deployment can have its own.')
  deployment_type: ('global' | 'data-zone' | 'regional')?

  @description('Deployment names that callers use, each with its name on this backend, or { name, model, tier, deployment_type }.')
  deployments: object

  @description('How the app authenticates to the backend. Default: { "kind": "managed-identity" }.')
  auth: object?

  @description('Name of the existing account. If omitted, no role is assigned, and the backend has no resource_id.')
  accountName: string?

  @description('Resource group of the existing account. Default: that of this deployment.')
  accountResourceGroup: string?

  @description('Subscription of the existing account. Default: that of this deployment.')
  accountSubscriptionId: string?
}

@description('Always-ready instances of one scale group: "http" for the front door, "function:NAME" for another.')
type alwaysReadyType = {
  name: string

  @minValue(1)
  instanceCount: int
}

// -- names and location --

@description('Prefix of every resource name: lower-case letters and digits, starting with a letter.')
@minLength(3)
@maxLength(8)
param namePrefix string = 'meter'

@description('Region of every resource. It must offer Flex Consumption.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags object = {}

// -- who may call --

@description('Accepted token audiences (METER_AUDIENCES).')
@minLength(1)
param audiences string[]

@description('Entra tenant of the callers.')
param tenantId string = tenant().tenantId

@description('Accepted token issuers (METER_ISSUERS). Default: the tenant\'s v1 and v2 issuers.')
@minLength(1)
param issuers string[] = [
  '${environment().name == 'AzureChinaCloud' ? 'https://sts.chinacloudapi.cn' : 'https://sts.windows.net'}/${tenantId}/'
  uri(environment().authentication.loginEndpoint, '${tenantId}/v2.0')
]

@description('Tenants whose tokens are accepted (METER_ALLOWED_TENANTS).')
@minLength(1)
param allowedTenants string[] = [
  tenantId
]

@description('Client app ids that may call (METER_ALLOWED_APPS); empty: any client with a valid token.')
param allowedApps string[] = []

@description('App roles; a caller needs one of them (METER_REQUIRED_ROLES). Empty: none needed.')
param requiredRoles string[] = []

@description('Scopes; a caller needs one of them (METER_REQUIRED_SCOPES). Empty: none needed.')
param requiredScopes string[] = []

@description('Token claim that identifies the metered subject (METER_SUBJECT_CLAIM): sub, or oid. Choose before the first call.')
@minLength(1)
param subjectClaim string = 'sub'

@description('Token claims with the caller\'s name, of which the first with text is recorded (METER_NAME_CLAIMS). Names are personal data; empty: none.')
param nameClaims string[] = [
  'app_displayname'
  'preferred_username'
  'upn'
  'unique_name'
  'email'
]

// -- behaviour --

@description('Azure OpenAI backends (METER_BACKENDS).')
@minLength(1)
param backends backendType[]

@description('Whether an answer ends only once its usage event is stored (METER_DURABILITY).')
@allowed([
  'acknowledged'
  'background'
])
param durability string = 'acknowledged'

@description('What happens to a stream whose client disconnects (METER_ON_DISCONNECT).')
@allowed([
  'drain'
  'cancel'
])
param onDisconnect string = 'drain'

@description('Prompt tokens above which a call is of context long (METER_LONG_CONTEXT_TOKENS).')
@minValue(1)
param longContextTokens int = 272000

@description('Days the ledger is kept (METER_RETENTION_DAYS). Duplicate events are detected within them, so they must exceed the 7 days for which the hub keeps events.')
@minValue(8)
param retentionDays int = 100

@description('Keep every ledger: the function that drops ledgers past their retention is disabled.')
param keepLedgers bool = false

@description('Additional app settings by name: METER_* settings, keys of backends, settings of the host (AzureFunctionsJobHost__*). Settings with a parameter of their own cannot be changed here. Flex Consumption refuses FUNCTIONS_WORKER_RUNTIME, WEBSITE_* and the settings of builds.')
param additionalSettings object = {}

// -- size --

@description('Memory of one instance in MB.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 2048

@description('Maximum number of on-demand instances per scale group: all HTTP functions are one, each other function is one.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 100

@description('Concurrent calls per instance before another instance is started.')
@minValue(1)
@maxValue(1000)
param httpPerInstanceConcurrency int = 100

@description('Scale groups with always-ready instances, which cost money even when idle; empty: none.')
param alwaysReady alwaysReadyType[] = []

@description('Partitions of the hub. Their number cannot be changed later and limits the number of aggregator instances.')
@minValue(1)
@maxValue(32)
param eventHubPartitions int = 8

@description('Throughput units of the namespace: each takes in 1 MB/s or 1,000 messages/s. A deployment sets them back to this number, also after auto-inflate.')
@minValue(1)
@maxValue(40)
param throughputUnits int = 1

@description('Upper limit of throughput units for auto-inflate; auto-inflate is off unless it exceeds throughputUnits.')
@minValue(1)
@maxValue(40)
param maximumThroughputUnits int = 4

@description('Keep a copy of every usage event as Avro blobs in the data account (Event Hubs Capture).')
param captureEnabled bool = false

@description('Write the report files to a container of the data account every night (METER_EXPORT_CONTAINER).')
param exportsEnabled bool = true

@description('Days after its last change until an exported file moves to the cool tier; 0: never.')
@minValue(0)
@maxValue(99999)
param exportsCoolAfterDays int = 400

@description('Days after its last change until an exported file is deleted, final ones included; 0: never.')
@minValue(0)
@maxValue(99999)
param exportsDeleteAfterDays int = 0

@description('Redundancy of the data account. Choose Standard_LRS in a region without zones.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param dataStorageSku string = 'Standard_ZRS'

@description('Retention of logs in days.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

// -- who may read --

@description('Object id of the Entra group that may read the usage tables and the exports; empty: no assignment.')
param analystsGroupId string = ''

@description('Object id of the Entra group that may read the Azure OpenAI accounts\' metrics, for `python -m meter reconcile`; empty: no assignment.')
param operatorsGroupId string = ''

// -- derived --

var suffix = uniqueString(resourceGroup().id, namePrefix)
var eventHubName = 'usage'
var deploymentContainer = 'app-package'
var captureContainer = 'usage-capture'
var exportContainer = 'exports'
var usageTables = [
  'UsageByHour'
  'UsageByDay'
  'UsageByMonth'
  'ViewShards'
  'Subjects'
  'DeadLetters'
  'HubPositions'
  'Outbox'
]

var backendEntries = [
  for backend in backends: {
    name: backend.name
    url: backend.url
    priority: backend.priority
    weight: backend.weight
    tier: backend.tier
    region: backend.?region
    deployment_type: backend.?deployment_type
    auth: backend.?auth ?? { kind: 'managed-identity' }
    deployments: backend.deployments
    resource_id: empty(backend.?accountName)
      ? null
      : resourceId(
          backend.?accountSubscriptionId ?? subscription().subscriptionId,
          backend.?accountResourceGroup ?? resourceGroup().name,
          'Microsoft.CognitiveServices/accounts',
          backend.?accountName ?? 'none'
        )
  }
]

// Token scopes of Azure OpenAI by cloud; `environment()` has no such property.
var backendTokenScopes = {
  AzureCloud: 'https://cognitiveservices.azure.com/.default'
  AzureUSGovernment: 'https://cognitiveservices.azure.us/.default'
  AzureChinaCloud: 'https://cognitiveservices.azure.cn/.default'
}

// Of two equal names the later one wins, so additionalSettings cannot override the ones below.
var meterSettings = union(
  additionalSettings,
  {
    METER_ISSUERS: join(issuers, ',')
    METER_AUDIENCES: join(audiences, ',')
    METER_ALLOWED_TENANTS: join(allowedTenants, ',')
    METER_SUBJECT_CLAIM: subjectClaim
    METER_NAME_CLAIMS: empty(nameClaims) ? ',' : join(nameClaims, ',') // an empty setting may be lost on the way
    METER_LONG_CONTEXT_TOKENS: string(longContextTokens)
    METER_BACKENDS: string({ backends: backendEntries })
    METER_DURABILITY: durability
    METER_ON_DISCONNECT: onDisconnect
    METER_RETENTION_DAYS: string(retentionDays)
    METER_EVENT_HUB: eventHubName
    METER_BACKEND_TOKEN_SCOPE: backendTokenScopes[environment().name]
  },
  empty(allowedApps) ? {} : { METER_ALLOWED_APPS: join(allowedApps, ',') },
  empty(requiredRoles) ? {} : { METER_REQUIRED_ROLES: join(requiredRoles, ',') },
  empty(requiredScopes) ? {} : { METER_REQUIRED_SCOPES: join(requiredScopes, ',') },
  exportsEnabled ? { METER_EXPORT_CONTAINER: exportContainer } : {},
  keepLedgers ? { 'AzureWebJobs.retention.Disabled': 'true' } : {}
)

// -- resources --

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    name: '${namePrefix}-id-${suffix}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    workspaceName: '${namePrefix}-log-${suffix}'
    appInsightsName: '${namePrefix}-ai-${suffix}'
    location: location
    tags: tags
    retentionDays: logRetentionDays
  }
}

module runtimeStorage 'modules/storage-account.bicep' = {
  name: 'runtime-storage'
  params: {
    name: '${namePrefix}rt${suffix}'
    location: location
    tags: tags
    skuName: 'Standard_LRS'
    containers: [
      deploymentContainer
    ]
    workspaceId: monitoring.outputs.workspaceId
  }
}

module dataStorage 'modules/storage-account.bicep' = {
  name: 'data-storage'
  params: {
    name: '${namePrefix}da${suffix}'
    location: location
    tags: tags
    skuName: dataStorageSku
    containers: concat(captureEnabled ? [captureContainer] : [], exportsEnabled ? [exportContainer] : [])
    tables: usageTables
    deleteLock: true
    workspaceId: monitoring.outputs.workspaceId
  }
}

module eventHubs 'modules/event-hubs.bicep' = {
  name: 'event-hubs'
  params: {
    namespaceName: '${namePrefix}-eh-${suffix}'
    hubName: eventHubName
    location: location
    tags: tags
    partitions: eventHubPartitions
    throughputUnits: throughputUnits
    maximumThroughputUnits: maximumThroughputUnits
    captureEnabled: captureEnabled
    captureAccountName: dataStorage.outputs.name
    captureContainerName: captureContainer
    workspaceId: monitoring.outputs.workspaceId
  }
}

module access 'modules/access.bicep' = {
  name: 'access'
  params: {
    appPrincipalId: identity.outputs.principalId
    analystsGroupId: analystsGroupId
    runtimeAccountName: runtimeStorage.outputs.name
    dataAccountName: dataStorage.outputs.name
    namespaceName: eventHubs.outputs.namespaceName
    hubName: eventHubs.outputs.hubName
    appInsightsName: monitoring.outputs.appInsightsName
  }
}

module exportAccess 'modules/exports.bicep' = if (exportsEnabled) {
  name: 'exports'
  params: {
    appPrincipalId: identity.outputs.principalId
    analystsGroupId: analystsGroupId
    accountName: dataStorage.outputs.name
    containerName: exportContainer
    coolAfterDays: exportsCoolAfterDays
    deleteAfterDays: exportsDeleteAfterDays
  }
}

// Sequential: two backends of one account create the same assignment.
@batchSize(1)
module openAiAccess 'modules/openai-access.bicep' = [
  for backend in backends: if (!empty(backend.?accountName)) {
    name: 'openai-access-${uniqueString(backend.name)}'
    scope: resourceGroup(
      backend.?accountSubscriptionId ?? subscription().subscriptionId,
      backend.?accountResourceGroup ?? resourceGroup().name
    )
    params: {
      accountName: backend.?accountName ?? 'none'
      appPrincipalId: identity.outputs.principalId
      operatorsGroupId: operatorsGroupId
    }
  }
]

module functionApp 'modules/function-app.bicep' = {
  name: 'function-app'
  params: {
    name: '${namePrefix}-func-${suffix}'
    planName: '${namePrefix}-plan-${suffix}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    runtimeBlobEndpoint: runtimeStorage.outputs.blobEndpoint
    runtimeQueueEndpoint: runtimeStorage.outputs.queueEndpoint
    runtimeTableEndpoint: runtimeStorage.outputs.tableEndpoint
    deploymentContainer: deploymentContainer
    dataTableEndpoint: dataStorage.outputs.tableEndpoint
    eventHubNamespace: eventHubs.outputs.fullyQualifiedNamespace
    appInsightsConnectionString: monitoring.outputs.appInsightsConnectionString
    meterSettings: meterSettings
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpPerInstanceConcurrency: httpPerInstanceConcurrency
    alwaysReady: alwaysReady
    workspaceId: monitoring.outputs.workspaceId
  }
  dependsOn: [
    access // the host reads its storage as soon as it starts
  ]
}

output functionAppName string = functionApp.outputs.name
output gatewayUrl string = functionApp.outputs.url
output eventHubNamespace string = eventHubs.outputs.fullyQualifiedNamespace
output tableServiceUri string = dataStorage.outputs.tableEndpoint
output exportsUrl string = exportsEnabled ? '${dataStorage.outputs.blobEndpoint}${exportContainer}' : ''
output identityClientId string = identity.outputs.clientId
