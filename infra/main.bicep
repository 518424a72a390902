// The whole deployment of the meter into one resource group: see docs/deployment.md.
targetScope = 'resourceGroup'

import {
  addressProblems
  backendProblems
  commaProblems
  namesakeProblems
  objectIdProblems
  prefixProblems
  secretProblems
  settingProblems
} from 'checks.bicep'
import {
  alwaysReadyType
  backendType
  endpointType
  existingNetworkType
  publicAccessType
  settingsType
  tagsType
  textType
} from 'types.bicep'

// -- names and location --

@description('Prefix of every resource name: lower-case letters and digits, starting with a letter.')
@minLength(3)
@maxLength(8)
param namePrefix string = 'meter'

@description('Region of every resource. It must offer Flex Consumption.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags tagsType = {}

// -- who may call --

@description('Accepted token audiences (METER_AUDIENCES).')
@minLength(1)
param audiences textType[]

@description('Entra tenant of the callers.')
param tenantId textType = tenant().tenantId

@description('Accepted token issuers (METER_ISSUERS). Default: the tenant\'s v1 and v2 issuers.')
@minLength(1)
param issuers textType[] = [
  '${environment().name == 'AzureChinaCloud' ? 'https://sts.chinacloudapi.cn' : 'https://sts.windows.net'}/${tenantId}/'
  // China's tokens name another host than its environment() does.
  '${environment().name == 'AzureChinaCloud' ? 'https://login.partner.microsoftonline.cn/' : environment().authentication.loginEndpoint}${tenantId}/v2.0'
]

@description('Tenants whose tokens are accepted (METER_ALLOWED_TENANTS).')
@minLength(1)
param allowedTenants textType[] = [
  tenantId
]

@description('Client app ids that may call (METER_ALLOWED_APPS); empty: any client with a valid token.')
param allowedApps textType[] = []

@description('App roles; a caller needs one of them (METER_REQUIRED_ROLES). Empty: none needed.')
param requiredRoles textType[] = []

@description('Scopes; a caller needs one of them (METER_REQUIRED_SCOPES). Empty: none needed.')
param requiredScopes textType[] = []

@description('Token claim that identifies the metered subject (METER_SUBJECT_CLAIM): sub, or oid. Choose before the first call.')
param subjectClaim textType = 'sub'

@description('Token claims with the caller\'s name, of which the first with text is recorded (METER_NAME_CLAIMS). Names are personal data; empty: none.')
param nameClaims textType[] = [
  'app_displayname'
  'preferred_username'
  'upn'
  'unique_name'
  'email'
]

@description('App role whose bearers may read GET /doctor (METER_OPERATOR_ROLE); empty: no such address.')
param operatorRole string = ''

// -- behaviour --

@description('Azure OpenAI backends (METER_BACKENDS).')
@minLength(1)
param backends backendType[]

@description('Whether an answer ends only once its usage event is stored (METER_DURABILITY).')
param durability 'acknowledged' | 'background' = 'acknowledged'

@description('What happens to a stream whose client disconnects (METER_ON_DISCONNECT).')
param onDisconnect 'drain' | 'cancel' = 'drain'

@description('Write a line per counted call to the log, with its subject (METER_CALL_LOG).')
param callLog 'on' | 'off' = 'on'

@description('Prompt tokens above which a call is of context long (METER_LONG_CONTEXT_TOKENS).')
@minValue(1)
param longContextTokens int = 272000

@description('Days the ledger is kept (METER_RETENTION_DAYS). Duplicate events are detected within them, so they must exceed the 7 days for which the hub keeps events.')
@minValue(8)
param retentionDays int = 100

@description('Keep every ledger: the function that drops ledgers past their retention is disabled.')
param keepLedgers bool = false

@description('Other app settings by name: METER_* settings, and settings of the host (AzureFunctionsJobHost__*). Refused: names with a parameter of their own, names that Flex Consumption refuses, and secrets.')
param additionalSettings settingsType = {}

@description('Settings that hold secrets, such as keys of backends, each with the address of its secret: https://VAULT.vault.azure.net/secrets/NAME. The front door\'s identity needs Key Vault Secrets User there.')
param keyVaultReferences settingsType = {}

// -- apps and network --

@description('Run the aggregator and its timers in an app of their own, with an identity that cannot call models; the front door\'s then cannot change counts.')
param separateAggregator bool = false

@description('Close storage and Event Hubs to public addresses: the apps reach them through private endpoints in a virtual network.')
param vnetEnabled bool = false

@description('Address range of that network, at least a /25.')
param vnetAddressPrefix string = '10.90.0.0/24'

@description('Subnets and zones of your own, instead of new ones.')
param existingNetwork existingNetworkType?

@description('Public IPv4 addresses and ranges that may pass all the same: operators and analysts with the commands, build agents.')
param allowedAddresses textType[] = []

@description('Who may call the gateway: everybody with a token, or the virtual network and allowedAddresses alone (private). Private also holds for publishing code.')
param gatewayAccess 'public' | 'private' = 'public'

@description('Spread the app over the zones of its region. Azure then keeps at least two always-ready instances of each scale group.')
param zoneRedundant bool = false

// -- watching --

@description('Deploy the alert rules and the workbook. The rules cost some 13 USD a month (docs/operations.md).')
param alertsEnabled bool = true

@description('Resource ids of the action groups that alerts call; empty: alerts fire, and call nobody.')
param actionGroupIds textType[] = []

@description('Where the runbooks of the alerts are: the page docs/operations.md of your copy of the repository.')
param runbooksUrl string = 'docs/operations.md'

// -- size --

@description('Memory of one instance in MB.')
param instanceMemoryMB 512 | 2048 | 4096 = 2048

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
param dataStorageSku 'Standard_LRS' | 'Standard_ZRS' | 'Standard_GRS' | 'Standard_GZRS' = 'Standard_ZRS'

@description('Retention of logs in days.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

// -- who may read --

@description('Object id of the Entra group that may read the usage tables and the exports; empty: no assignment.')
param analystsGroupId string = ''

@description('Object id of the Entra group that may read the Azure OpenAI accounts\' metrics, for `python -m meter reconcile`; empty: no assignment.')
param operatorsGroupId string = ''

// -- checks --

var ownSettings = [
  'METER_ISSUERS'
  'METER_AUDIENCES'
  'METER_ALLOWED_TENANTS'
  'METER_ALLOWED_APPS'
  'METER_REQUIRED_ROLES'
  'METER_REQUIRED_SCOPES'
  'METER_OPERATOR_ROLE'
  'METER_SUBJECT_CLAIM'
  'METER_NAME_CLAIMS'
  'METER_LONG_CONTEXT_TOKENS'
  'METER_BACKENDS'
  'METER_BACKEND_TOKEN_SCOPE'
  'METER_DURABILITY'
  'METER_ON_DISCONNECT'
  'METER_RETENTION_DAYS'
  'METER_CALL_LOG'
  'METER_EVENT_HUB'
  'METER_EXPORT_CONTAINER'
]

var secretNames = map(items(keyVaultReferences), s => s.key)

var problems = concat(
  prefixProblems(namePrefix),
  flatten(map(backends, b => backendProblems(b, secretNames))),
  namesakeProblems(map(backends, b => b.name)),
  commaProblems('audiences', audiences),
  commaProblems('allowedTenants', allowedTenants),
  commaProblems('allowedApps', allowedApps),
  commaProblems('requiredRoles', requiredRoles),
  commaProblems('requiredScopes', requiredScopes),
  objectIdProblems('analystsGroupId', analystsGroupId),
  objectIdProblems('operatorsGroupId', operatorsGroupId),
  settingProblems(additionalSettings, concat(ownSettings, secretNames)),
  secretProblems(keyVaultReferences, ownSettings),
  addressProblems(allowedAddresses),
  alertsEnabled && contains(['warning', 'error'], toLower(additionalSettings.?METER_LOG_LEVEL ?? ''))
    ? ['additionalSettings: with METER_LOG_LEVEL above INFO the lines that alerts read are not written']
    : [],
  vnetEnabled || (empty(allowedAddresses) && existingNetwork == null && gatewayAccess == 'public')
    ? []
    : ['allowedAddresses, existingNetwork and a private gateway need vnetEnabled'],
  separateAggregator && existingNetwork != null && empty(existingNetwork.?aggregatorSubnetId)
    ? ['existingNetwork: separateAggregator needs aggregatorSubnetId']
    : [],
  zoneRedundant && !contains(dataStorageSku, 'ZRS')
    ? ['zoneRedundant needs dataStorageSku Standard_ZRS or Standard_GZRS']
    : []
)

// -- names: made here alone, so that what-if knows every resource beforehand --

var suffix = empty(problems) ? uniqueString(resourceGroup().id, namePrefix) : fail(join(problems, '; '))
var names = {
  identity: '${namePrefix}-id-${suffix}'
  aggregatorIdentity: '${namePrefix}-agg-id-${suffix}'
  workspace: '${namePrefix}-log-${suffix}'
  appInsights: '${namePrefix}-ai-${suffix}'
  runtimeAccount: '${namePrefix}rt${suffix}'
  aggregatorRuntimeAccount: '${namePrefix}ra${suffix}'
  dataAccount: '${namePrefix}da${suffix}'
  namespace: '${namePrefix}-eh-${suffix}'
  plan: '${namePrefix}-plan-${suffix}'
  aggregatorPlan: '${namePrefix}-agg-plan-${suffix}'
  app: '${namePrefix}-func-${suffix}'
  aggregatorApp: '${namePrefix}-agg-${suffix}'
  network: '${namePrefix}-net-${suffix}'
}
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
var appNames = concat([names.app], separateAggregator ? [names.aggregatorApp] : [])

// What differs between clouds; `environment()` has no such properties.
var clouds = {
  AzureCloud: {
    tokenScope: 'https://cognitiveservices.azure.com/.default'
    eventHubs: 'servicebus.windows.net'
    sites: 'azurewebsites.net'
  }
  AzureUSGovernment: {
    tokenScope: 'https://cognitiveservices.azure.us/.default'
    eventHubs: 'servicebus.usgovcloudapi.net'
    sites: 'azurewebsites.us'
  }
  AzureChinaCloud: {
    tokenScope: 'https://cognitiveservices.azure.cn/.default'
    eventHubs: 'servicebus.chinacloudapi.cn'
    sites: 'chinacloudsites.cn'
  }
}
var cloud = clouds[environment().name]
var dataTableEndpoint = 'https://${names.dataAccount}.table.${environment().suffixes.storage}/'
var dataBlobEndpoint = 'https://${names.dataAccount}.blob.${environment().suffixes.storage}/'
var eventHubNamespaceHost = '${names.namespace}.${cloud.eventHubs}'

// -- settings --

@description('Id of each backend\'s account; empty where there is none.')
var accountIds = [
  for backend in backends: empty(backend.?accountName)
    ? ''
    : resourceId(
        backend.?accountSubscriptionId ?? subscription().subscriptionId,
        backend.?accountResourceGroup ?? resourceGroup().name,
        'Microsoft.CognitiveServices/accounts',
        backend.?accountName ?? 'none'
      )
]

var backendEntries = [
  for (backend, i) in backends: {
    name: backend.name
    url: backend.url
    priority: backend.priority
    weight: backend.weight
    tier: backend.tier
    region: backend.?region
    deployment_type: backend.?deployment_type
    auth: backend.?auth ?? { kind: 'managed-identity' }
    deployments: union(backend.?deployments ?? {}, backend.?describedDeployments ?? {})
    resource_id: empty(accountIds[i]) ? null : accountIds[i]
  }
]

// Of two equal names the later one wins, so additionalSettings cannot override the ones below.
var sharedSettings = union(additionalSettings, {
  METER_BACKENDS: string({ backends: backendEntries })
  METER_RETENTION_DAYS: string(retentionDays)
  METER_CALL_LOG: callLog
  METER_EVENT_HUB: eventHubName
})

var frontDoorSettings = union(
  toObject(items(keyVaultReferences), s => s.key, s => '@Microsoft.KeyVault(SecretUri=${s.value})'),
  {
    METER_ISSUERS: join(issuers, ',')
    METER_AUDIENCES: join(audiences, ',')
    METER_ALLOWED_TENANTS: join(allowedTenants, ',')
    METER_SUBJECT_CLAIM: subjectClaim
    METER_NAME_CLAIMS: empty(nameClaims) ? ',' : join(nameClaims, ',') // an empty setting may be lost on the way
    METER_LONG_CONTEXT_TOKENS: string(longContextTokens)
    METER_DURABILITY: durability
    METER_ON_DISCONNECT: onDisconnect
    METER_BACKEND_TOKEN_SCOPE: cloud.tokenScope
  },
  empty(allowedApps) ? {} : { METER_ALLOWED_APPS: join(allowedApps, ',') },
  empty(requiredRoles) ? {} : { METER_REQUIRED_ROLES: join(requiredRoles, ',') },
  empty(requiredScopes) ? {} : { METER_REQUIRED_SCOPES: join(requiredScopes, ',') },
  empty(operatorRole) ? {} : { METER_OPERATOR_ROLE: operatorRole }
)

var aggregatorSettings = union(
  exportsEnabled ? { METER_EXPORT_CONTAINER: exportContainer } : {},
  keepLedgers ? disabled(['retention']) : {}
)

@description('Settings with which the Functions host does not start functions.')
func disabled(functions string[]) settingsType => toObject(functions, f => 'AzureWebJobs.${f}.Disabled', f => 'true')

// What needs the right to send runs in the front door; what counts, in the aggregator.
var frontDoorFunctions = ['front_door', 'outbox']
var aggregatorFunctions = ['aggregator', 'sweep', 'retention', 'export']

// -- network --

var zoneNames = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  namespace: 'privatelink.${cloud.eventHubs}'
  sites: 'privatelink.${cloud.sites}'
}
var isPrivate = gatewayAccess == 'private'
var subnetNames = {
  app: 'front-door'
  aggregator: 'aggregator'
  endpoints: 'private-endpoints'
}
var newSubnets = {
  app: resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, subnetNames.app)
  aggregator: resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, subnetNames.aggregator)
  endpoints: resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, subnetNames.endpoints)
}
var newZones = {
  blob: resourceId('Microsoft.Network/privateDnsZones', zoneNames.blob)
  table: resourceId('Microsoft.Network/privateDnsZones', zoneNames.table)
  namespace: resourceId('Microsoft.Network/privateDnsZones', zoneNames.namespace)
  sites: resourceId('Microsoft.Network/privateDnsZones', zoneNames.sites)
}
var zoneIds = existingNetwork == null ? newZones : (existingNetwork.?zoneIds ?? {})
var appSubnetId = vnetEnabled ? existingNetwork.?appSubnetId ?? newSubnets.app : ''
var aggregatorSubnetId = vnetEnabled ? existingNetwork.?aggregatorSubnetId ?? newSubnets.aggregator : ''

var endpoints endpointType[] = concat(
  [
    {
      name: '${names.runtimeAccount}-blob'
      targetId: resourceId('Microsoft.Storage/storageAccounts', names.runtimeAccount)
      groupId: 'blob'
      zoneId: zoneIds.?blob ?? ''
    }
    {
      name: '${names.dataAccount}-table'
      targetId: resourceId('Microsoft.Storage/storageAccounts', names.dataAccount)
      groupId: 'table'
      zoneId: zoneIds.?table ?? ''
    }
    {
      name: '${names.dataAccount}-blob'
      targetId: resourceId('Microsoft.Storage/storageAccounts', names.dataAccount)
      groupId: 'blob'
      zoneId: zoneIds.?blob ?? ''
    }
    {
      name: '${names.namespace}-namespace'
      targetId: resourceId('Microsoft.EventHub/namespaces', names.namespace)
      groupId: 'namespace'
      zoneId: zoneIds.?namespace ?? ''
    }
  ],
  separateAggregator
    ? [
        {
          name: '${names.aggregatorRuntimeAccount}-blob'
          targetId: resourceId('Microsoft.Storage/storageAccounts', names.aggregatorRuntimeAccount)
          groupId: 'blob'
          zoneId: zoneIds.?blob ?? ''
        }
      ]
    : []
)
var everybody publicAccessType = { isOpen: true, addresses: [] }
var nobody publicAccessType = { isOpen: false, addresses: [] }
var operators publicAccessType = { isOpen: false, addresses: allowedAddresses }
var servicesAccess publicAccessType = vnetEnabled ? operators : everybody
var appAccess publicAccessType = isPrivate ? operators : everybody

// -- resources --

module identity 'modules/identity.bicep' = {
  params: {
    name: names.identity
    location: location
    tags: tags
  }
}

module aggregatorIdentity 'modules/identity.bicep' = if (separateAggregator) {
  params: {
    name: names.aggregatorIdentity
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    workspaceName: names.workspace
    appInsightsName: names.appInsights
    location: location
    tags: tags
    retentionDays: logRetentionDays
  }
}

module network 'modules/network.bicep' = if (vnetEnabled && existingNetwork == null) {
  params: {
    name: names.network
    location: location
    tags: tags
    addressPrefix: vnetAddressPrefix
    appSubnetName: subnetNames.app
    aggregatorSubnetName: subnetNames.aggregator
    endpointSubnetName: subnetNames.endpoints
    zoneNames: concat([zoneNames.blob, zoneNames.table, zoneNames.namespace], isPrivate ? [zoneNames.sites] : [])
  }
}

module runtimeStorage 'modules/storage-account.bicep' = {
  params: {
    name: names.runtimeAccount
    location: location
    tags: tags
    skuName: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'
    containers: [
      deploymentContainer
    ]
    publicAccess: vnetEnabled ? nobody : everybody
    workspaceName: names.workspace
  }
  dependsOn: [
    monitoring
  ]
}

// An account of its own: a host owns the blobs of its runtime account, checkpoints and keys among them.
module aggregatorRuntimeStorage 'modules/storage-account.bicep' = if (separateAggregator) {
  params: {
    name: names.aggregatorRuntimeAccount
    location: location
    tags: tags
    skuName: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'
    containers: [
      deploymentContainer
    ]
    publicAccess: vnetEnabled ? nobody : everybody
    workspaceName: names.workspace
  }
  dependsOn: [
    monitoring
  ]
}

module dataStorage 'modules/storage-account.bicep' = {
  params: {
    name: names.dataAccount
    location: location
    tags: tags
    skuName: dataStorageSku
    containers: concat(captureEnabled ? [captureContainer] : [], exportsEnabled ? [exportContainer] : [])
    tables: usageTables
    deleteLock: true
    publicAccess: servicesAccess
    letsAzureServicesIn: captureEnabled
    workspaceName: names.workspace
  }
  dependsOn: [
    monitoring
  ]
}

module eventHubs 'modules/event-hubs.bicep' = {
  params: {
    namespaceName: names.namespace
    hubName: eventHubName
    location: location
    tags: tags
    partitions: eventHubPartitions
    throughputUnits: throughputUnits
    maximumThroughputUnits: maximumThroughputUnits
    captureEnabled: captureEnabled
    captureAccountName: names.dataAccount
    captureContainerName: captureContainer
    publicAccess: servicesAccess
    workspaceName: names.workspace
  }
  dependsOn: [
    dataStorage
    monitoring
  ]
}

module privateEndpoints 'modules/private-endpoint.bicep' = [
  for endpoint in (vnetEnabled ? endpoints : []): {
    params: {
      name: endpoint.name
      location: location
      tags: tags
      subnetId: existingNetwork.?endpointSubnetId ?? newSubnets.endpoints
      targetId: endpoint.targetId
      groupId: endpoint.groupId
      zoneId: endpoint.zoneId
    }
    dependsOn: [
      network
      runtimeStorage
      aggregatorRuntimeStorage
      dataStorage
      eventHubs
    ]
  }
]

module access 'modules/access.bicep' = {
  params: {
    #disable-next-line what-if-short-circuiting // an identity made anew has another principal, and the assignments other names
    frontDoorPrincipalId: identity.outputs.principalId
    #disable-next-line what-if-short-circuiting // the same
    aggregatorPrincipalId: separateAggregator ? aggregatorIdentity!.outputs.principalId : identity.outputs.principalId
    isSeparate: separateAggregator
    analystsGroupId: analystsGroupId
    runtimeAccountName: names.runtimeAccount
    aggregatorRuntimeAccountName: names.aggregatorRuntimeAccount
    dataAccountName: names.dataAccount
    namespaceName: names.namespace
    hubName: eventHubName
    appInsightsName: names.appInsights
  }
  dependsOn: [
    monitoring
    runtimeStorage
    aggregatorRuntimeStorage
    dataStorage
    eventHubs
  ]
}

module exportAccess 'modules/exports.bicep' = if (exportsEnabled) {
  params: {
    #disable-next-line what-if-short-circuiting // an identity made anew has another principal, and the assignment another name
    appPrincipalId: separateAggregator ? aggregatorIdentity!.outputs.principalId : identity.outputs.principalId
    analystsGroupId: analystsGroupId
    accountName: names.dataAccount
    containerName: exportContainer
    coolAfterDays: exportsCoolAfterDays
    deleteAfterDays: exportsDeleteAfterDays
  }
  dependsOn: [
    dataStorage
  ]
}

// Each account once: several backends may be of one, and Azure ignores the case of names.
var openAiAccounts = map(union(map(filter(accountIds, id => !empty(id)), id => toLower(id)), []), id => split(first(filter(accountIds, each => toLower(each) == id))!, '/'))

module openAiAccess 'modules/openai-access.bicep' = [
  for account in openAiAccounts: {
    scope: resourceGroup(account[2], account[4])
    params: {
      accountName: last(account)
      #disable-next-line what-if-short-circuiting // an identity made anew has another principal, and the assignment another name
      appPrincipalId: identity.outputs.principalId
      operatorsGroupId: operatorsGroupId
    }
  }
]

module functionApp 'modules/function-app.bicep' = {
  params: {
    name: names.app
    planName: names.plan
    location: location
    tags: union(tags, { 'azd-service-name': 'api' }) // azd finds the app by this tag: the service's name in azure.yaml
    identityName: names.identity
    identityClientId: identity.outputs.clientId
    runtimeAccountName: names.runtimeAccount
    deploymentContainer: deploymentContainer
    dataTableEndpoint: dataTableEndpoint
    eventHubNamespace: eventHubNamespaceHost
    appInsightsConnectionString: monitoring.outputs.appInsightsConnectionString
    settings: separateAggregator
      ? union(sharedSettings, frontDoorSettings, disabled(aggregatorFunctions))
      : union(sharedSettings, frontDoorSettings, aggregatorSettings)
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpPerInstanceConcurrency: httpPerInstanceConcurrency
    alwaysReady: separateAggregator ? filter(alwaysReady, a => a.name != 'function:aggregator') : alwaysReady
    isZoneRedundant: zoneRedundant
    subnetId: appSubnetId
    publicAccess: appAccess
    publishAccess: appAccess
    workspaceName: names.workspace
  }
  dependsOn: [
    access // the host reads its storage as soon as it starts
    privateEndpoints
  ]
}

module aggregatorApp 'modules/function-app.bicep' = if (separateAggregator) {
  params: {
    name: names.aggregatorApp
    planName: names.aggregatorPlan
    location: location
    tags: tags
    identityName: names.aggregatorIdentity
    identityClientId: separateAggregator ? aggregatorIdentity!.outputs.clientId : ''
    runtimeAccountName: names.aggregatorRuntimeAccount
    deploymentContainer: deploymentContainer
    dataTableEndpoint: dataTableEndpoint
    eventHubNamespace: eventHubNamespaceHost
    appInsightsConnectionString: monitoring.outputs.appInsightsConnectionString
    settings: union(sharedSettings, aggregatorSettings, disabled(frontDoorFunctions))
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    httpPerInstanceConcurrency: httpPerInstanceConcurrency
    alwaysReady: filter(alwaysReady, a => a.name == 'function:aggregator')
    isZoneRedundant: zoneRedundant
    subnetId: aggregatorSubnetId
    publicAccess: nobody // it answers no calls
    publishAccess: appAccess
    workspaceName: names.workspace
  }
  dependsOn: [
    access
    privateEndpoints
  ]
}

module gatewayPrivateEndpoints 'modules/private-endpoint.bicep' = [
  for app in (isPrivate ? appNames : []): {
    params: {
      name: '${app}-sites'
      location: location
      tags: tags
      subnetId: existingNetwork.?endpointSubnetId ?? newSubnets.endpoints
      targetId: resourceId('Microsoft.Web/sites', app)
      groupId: 'sites'
      zoneId: zoneIds.?sites ?? ''
    }
    dependsOn: [
      network
      functionApp
      aggregatorApp
    ]
  }
]

module alerts 'modules/alerts.bicep' = if (alertsEnabled) {
  params: {
    namePrefix: namePrefix
    location: location
    tags: tags
    workspaceName: names.workspace
    dataAccountName: names.dataAccount
    actionGroupIds: actionGroupIds
    runbooksUrl: runbooksUrl
  }
  dependsOn: [
    monitoring
    dataStorage
  ]
}

module workbook 'modules/workbook.bicep' = if (alertsEnabled) {
  params: {
    location: location
    tags: tags
    workspaceName: names.workspace
    displayName: '${namePrefix} usage and health'
  }
  dependsOn: [
    monitoring
  ]
}

@description('Name of the app to publish code to.')
output functionAppName string = names.app

@description('Name of the aggregator\'s app to publish code to: the same with one app.')
output aggregatorAppName string = separateAggregator ? names.aggregatorApp : names.app

@description('Address for callers.')
output gatewayUrl string = functionApp.outputs.url

@description('Host name of the Event Hubs namespace, for the commands.')
output eventHubNamespace string = eventHubNamespaceHost

@description('Table address of the data account, for the commands.')
output tableServiceUri string = dataTableEndpoint

@description('Address of the exports\' container; empty: none.')
output exportsUrl string = exportsEnabled ? '${dataBlobEndpoint}${exportContainer}' : ''

@description('Client id of the front door\'s identity.')
output identityClientId string = identity.outputs.clientId
