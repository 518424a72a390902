// The types of the parameters: what would fail later, or open something, is refused with its line.

@export()
@description('Tags by name.')
type tagsType = {
  @description('A tag\'s value.')
  *: string
}

@export()
@description('A text that is not empty: an empty audience or tenant would be none, or any.')
@minLength(1)
type textType = string

@description('A name of a backend or deployment: letters, digits and ._-')
@minLength(1)
@maxLength(64)
type nameType = string

@description('The app\'s own identity. It needs a role on the account.')
@sealed()
type managedIdentityType = {
  @description('By managed identity.')
  kind: 'managed-identity'
}

@description('A key, by the name of the app setting that holds it. The key itself never stands here.')
@sealed()
type apiKeyType = {
  @description('By key.')
  kind: 'api-key'

  @description('Name of the setting, for which keyVaultReferences has an entry.')
  setting: textType
}

@description('How the app authenticates to a backend.')
@discriminator('kind')
type backendAuthType = managedIdentityType | apiKeyType

@description('Where Azure may process calls: SKUs Global* are global, DataZone* data-zone, the others regional.')
type deploymentTypeType = 'global' | 'data-zone' | 'regional'

@description('A deployment that differs from its backend, or whose answers name no model.')
@sealed()
type describedDeploymentType = {
  @description('Name on this backend.')
  name: nameType

  @description('Model as answers name it, e.g. gpt-4o-2024-11-20.')
  model: textType?

  @description('How Azure bills its calls.')
  tier: ('provisioned' | 'standard')?

  @description('Where Azure may process the calls.')
  deployment_type: deploymentTypeType?
}

@export()
@description('One Azure OpenAI backend: an entry of METER_BACKENDS, and its account for the role assignment.')
@sealed()
type backendType = {
  @description('Name of the backend in usage events, logs and metrics.')
  name: nameType

  @description('Endpoint, e.g. https://contoso-eus.openai.azure.com/')
  @minLength(9)
  url: string

  @description('Backends with the lowest number are tried first.')
  @minValue(1)
  @maxValue(1000)
  priority: int

  @description('Share of the calls within one priority.')
  @minValue(1)
  @maxValue(100)
  weight: int

  @description('How Azure bills the deployments of this backend.')
  tier: 'provisioned' | 'standard'

  @description('Azure region of the account, e.g. swedencentral.')
  region: textType?

  @description('Where Azure may process the calls; a deployment can have its own.')
  deployment_type: deploymentTypeType?

  @description('Deployment names that callers use, each with its name on this backend.')
  deployments: {
    @description('Name on this backend, by the name that callers use.')
    *: nameType
  }?

  @description('The same, for deployments with a model, tier or type of their own.')
  describedDeployments: {
    @description('Deployment, by the name that callers use.')
    *: describedDeploymentType
  }?

  @description('How the app authenticates to the backend. Default: { "kind": "managed-identity" }.')
  auth: backendAuthType?

  @description('Name of the existing account. If omitted, no role is assigned, and the backend has no resource_id.')
  accountName: textType?

  @description('Resource group of the existing account. Default: that of this deployment.')
  accountResourceGroup: textType?

  @description('Subscription of the existing account. Default: that of this deployment.')
  @minLength(36)
  @maxLength(36)
  accountSubscriptionId: string?
}

@export()
@description('Always-ready instances of one scale group: all HTTP functions are one, each other function is one.')
@sealed()
type alwaysReadyType = {
  @description('The scale group.')
  name: 'http' | 'function:aggregator' | 'function:outbox'

  @description('How many are kept ready; each costs money when idle.')
  @minValue(1)
  instanceCount: int
}

@export()
@description('Subnets and zones of your own, instead of new ones.')
@sealed()
type existingNetworkType = {
  @description('Id of a subnet that is delegated to Microsoft.App/environments and used by nothing else.')
  appSubnetId: textType

  @description('The same for the aggregator, where it is an app of its own.')
  aggregatorSubnetId: textType?

  @description('Id of a subnet for private endpoints.')
  endpointSubnetId: textType

  @description('Ids of private DNS zones linked to the network. Without a zone\'s id its endpoints get no record here, as where a policy makes them.')
  zoneIds: zoneIdsType?
}

@description('Ids of private DNS zones.')
@sealed()
type zoneIdsType = {
  @description('privatelink.blob.core.windows.net')
  blob: textType?

  @description('privatelink.table.core.windows.net')
  table: textType?

  @description('privatelink.servicebus.windows.net')
  namespace: textType?

  @description('privatelink.azurewebsites.net')
  sites: textType?
}

@export()
@description('One private endpoint: which part of which resource, and the zone that names it.')
@sealed()
type endpointType = {
  @description('Name of the endpoint.')
  name: string

  @description('Id of the resource.')
  targetId: string

  @description('Part of the resource.')
  groupId: 'blob' | 'table' | 'namespace' | 'sites'

  @description('Id of the zone; empty: no record.')
  zoneId: string
}

@export()
@description('An app setting that is no secret.')
type settingsType = {
  @description('A setting\'s value.')
  *: string
}

@export()
@description('Who may reach a service by its public address: everybody, these addresses, or nobody.')
@sealed()
type publicAccessType = {
  @description('Everybody may.')
  isOpen: bool

  @description('IPv4 addresses and ranges; with isOpen false these alone.')
  addresses: string[]
}

@export()
@description('An address that may reach an app.')
@sealed()
type restrictionType = {
  @description('Name of the rule.')
  name: string

  @description('What becomes of calls from there.')
  action: 'Allow'

  @description('Order of the rules.')
  priority: int

  @description('The range.')
  ipAddress: string
}
