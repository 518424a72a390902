// Copies of all events, kept ledgers, exports that are deleted.
using '../../../infra/main.bicep'

param audiences = ['00000000-0000-0000-0000-000000000001']
param captureEnabled = true
param keepLedgers = true
param exportsDeleteAfterDays = 800
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
