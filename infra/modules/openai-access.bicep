// Role assignments on one existing Azure OpenAI account; deployed into that account's resource group.

@description('Name of the account.')
param accountName string

@description('Principal of the app\'s identity.')
param appPrincipalId string

@description('Object id of the operators\' Entra group; empty: no assignment.')
param operatorsGroupId string

var cognitiveServicesOpenAiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
var monitoringReader = '43d0d8ad-25c7-4714-9337-8ba259a9fe05'

resource openAiAccount 'Microsoft.CognitiveServices/accounts@2025-06-01' existing = {
  name: accountName
}

resource appCallsModels 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(openAiAccount.id, appPrincipalId, cognitiveServicesOpenAiUser)
  scope: openAiAccount
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', cognitiveServicesOpenAiUser)
  }
}

resource operatorsReadMetrics 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorsGroupId)) {
  name: guid(openAiAccount.id, operatorsGroupId, monitoringReader)
  scope: openAiAccount
  properties: {
    principalId: operatorsGroupId
    principalType: 'Group'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringReader)
  }
}
