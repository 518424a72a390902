// An account in another subscription.
using '../../../infra/main.bicep'

param audiences = ['00000000-0000-0000-0000-000000000001']
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
    accountSubscriptionId: '44444444-4444-4444-4444-444444444444'
  }
]
param operatorsGroupId = '00000000-0000-0000-0000-00000000000b'
