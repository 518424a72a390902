// Nothing public: a network of its own, a private gateway, copies of events, spread over zones.
using '../../../infra/main.bicep'

param audiences = ['00000000-0000-0000-0000-000000000001']
param vnetEnabled = true
param gatewayAccess = 'private'
param captureEnabled = true
param zoneRedundant = true
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
