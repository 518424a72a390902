// Forty backends of twenty accounts, as large pools are.
using '../../../infra/main.bicep'

param audiences = ['00000000-0000-0000-0000-000000000001']
param backends = map(range(0, 40), i => {
  name: 'backend-${i}'
  url: 'https://contoso-${i / 2}.openai.azure.com/'
  priority: 1 + i % 3
  weight: 1 + i
  tier: i % 2 == 0 ? 'provisioned' : 'standard'
  deployments: { 'gpt-4o': 'gpt-4o-${i}' }
  accountName: i % 2 == 0 ? 'contoso-${i / 2}' : 'Contoso-${i / 2}'
  accountResourceGroup: 'rg-contoso-openai'
})
