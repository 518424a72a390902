// Groups of readers, every rule on callers, and settings without a parameter of their own.
using '../../../infra/main.bicep'

param audiences = ['00000000-0000-0000-0000-000000000001']
param analystsGroupId = '00000000-0000-0000-0000-00000000000a'
param operatorsGroupId = '00000000-0000-0000-0000-00000000000b'
param allowedApps = ['00000000-0000-0000-0000-00000000000c']
param requiredRoles = ['Models.Call']
param requiredScopes = ['user_impersonation']
param nameClaims = []
param actionGroupIds = ['/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/rg-on-call/providers/Microsoft.Insights/actionGroups/on-call']
param operatorRole = 'Meter.Operate'
param callLog = 'off'
param exportsEnabled = false
param additionalSettings = {
  METER_MAX_DRAINS: '50'
  AzureFunctionsJobHost__functionTimeout: '00:20:00'
  METER_TOTAL_TIMEOUT_SECONDS: '1100'
}
param keyVaultReferences = { WEU_KEY: 'https://contoso.vault.azure.net/secrets/weu' }
param backends = [
  {
    name: 'eus'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
    describedDeployments: { whisper: { name: 'whisper-eus', model: 'whisper-001' } }
    accountName: 'contoso-eus'
  }
  {
    name: 'weu'
    url: 'https://contoso-weu.openai.azure.com/'
    priority: 2
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
    auth: { kind: 'api-key', setting: 'WEU_KEY' }
  }
]
