// The aggregator as an app of its own, with everything that concerns it.
using '../../../infra/main.bicep'

param alertsEnabled = false
param audiences = ['00000000-0000-0000-0000-000000000001']
param separateAggregator = true
param keepLedgers = true
param zoneRedundant = true
param analystsGroupId = '00000000-0000-0000-0000-00000000000a'
param keyVaultReferences = { EUS_KEY: 'https://contoso.vault.azure.net/secrets/eus' }
param alwaysReady = [
  { name: 'http', instanceCount: 2 }
  { name: 'function:aggregator', instanceCount: 1 }
]
param backends = [
  {
    name: 'eus'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
    accountName: 'contoso-eus'
    accountResourceGroup: 'rg-contoso-openai'
  }
]
