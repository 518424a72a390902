// Refused with the line, before anything is sent to Azure.
using '../../../infra/main.bicep'

param audiences = ['']
param alwaysReady = [{ name: 'front_door', instanceCount: 1 }]
param keyVaultReferences = { EUS_KEY: 'https://contoso.vault.azure.net/secrets/eus' }
param backends = [
  {
    name: 'key-in-plain-text'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
    auth: { kind: 'api-key', setting: 'EUS_KEY', key: '0123456789abcdef' }
  }
  {
    name: 'another-way-in'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
    auth: { kind: 'password' }
  }
  {
    name: 'number-and-unknown-field'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 0
    weight: 101
    tier: 'standard'
    deployments: { 'gpt-4o': 4 }
    resourceGroup: 'rg-contoso'
  }
]
