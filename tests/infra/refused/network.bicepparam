// Refused before anything is made, with a network.
using '../../../infra/main.bicep'

param namePrefix = '1meter'
param audiences = ['00000000-0000-0000-0000-000000000001']
param vnetEnabled = true
param separateAggregator = true
param allowedAddresses = [
  '10.0.0.7'
  '172.16.0.7'
  'laptop.contoso.com'
  '203.0.113.999'
  '203.0.113.0/31'
  '128.0.0.0/0'
]
param existingNetwork = { appSubnetId: 'a', endpointSubnetId: 'b' }
param backends = [
  {
    name: 'eus'
    url: 'https://contoso-eus.openai.azure.com/'
    priority: 1
    weight: 100
    tier: 'standard'
    deployments: { 'gpt-4o': 'gpt-4o' }
  }
]
