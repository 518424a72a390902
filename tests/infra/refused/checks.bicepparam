// Refused before anything is made: what types cannot express.
using '../../../infra/main.bicep'

param namePrefix = 'Me-ter'
param audiences = ['00000000-0000-0000-0000-000000000001,api://other']
param requiredRoles = [' ']
param analystsGroupId = 'analysts'
param operatorsGroupId = '00000000-0000-0000-0000-00000000000g'
param allowedAddresses = ['203.0.113.7']
param gatewayAccess = 'private'
param zoneRedundant = true
param dataStorageSku = 'Standard_LRS'
param keyVaultReferences = {
  WEU_KEY: '0123456789abcdef'
  EventHubConnection: 'https://contoso.vault.azure.net/secrets/hub'
  METER_AUDIENCES: 'https://contoso.vault.azure.net/secrets/audiences'
}
param additionalSettings = {
  OTHER: 'Endpoint=sb://contoso;SharedAccessKey=abc='
  meter_issuers: 'https://sts.windows.net/x/'
  WEBSITE_RUN_FROM_PACKAGE: '1'
  MeterStorage: 'UseDevelopmentStorage=true'
  METER_LOG_LEVEL: 'Warning'
}
param backends = [
  {
    name: 'plain'
    url: 'http://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: {}
  }
  {
    name: 'without-vault'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
    auth: { kind: 'api-key', setting: 'EUS_KEY' }
  }
  {
    name: 'Plain'
    url: 'https://caller:word@contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt 4o': 'gpt-4o' }
  }
]
