// A network that was there, a public gateway, two apps, and two addresses that may pass.
using '../../../infra/main.bicep'

param audiences = ['00000000-0000-0000-0000-000000000001']
param vnetEnabled = true
param separateAggregator = true
param allowedAddresses = ['203.0.113.7', '198.51.100.0/24']
param existingNetwork = {
  appSubnetId: '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-net/providers/Microsoft.Network/virtualNetworks/hub/subnets/meter'
  aggregatorSubnetId: '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-net/providers/Microsoft.Network/virtualNetworks/hub/subnets/meter-aggregator'
  endpointSubnetId: '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-net/providers/Microsoft.Network/virtualNetworks/hub/subnets/endpoints'
  zoneIds: {
    blob: '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-net/providers/Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net'
    table: '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/rg-net/providers/Microsoft.Network/privateDnsZones/privatelink.table.core.windows.net'
  }
}
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
