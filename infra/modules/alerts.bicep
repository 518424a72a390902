// Alert rules on the app's log and on its storage. Each has a runbook in docs/operations.md under its own name.

import { tagsType } from '../types.bicep'

@description('A rule on the log: a query that gives a row per reason to alert.')
type ruleType = {
  @description('Name, and anchor of the runbook.')
  name: string

  @description('What has happened.')
  summary: string

  @description('0 critical, 1 error, 2 warning, 3 informational.')
  severity: int

  @description('The query.')
  query: string

  @description('How often it runs: every 5 minutes costs three times as much as every 15 or more.')
  every: 'PT5M' | 'PT15M' | 'PT30M' | 'PT1H'

  @description('How far back it looks: further than the time between two runs, since lines arrive late.')
  window: 'PT15M' | 'PT30M' | 'PT1H' | 'PT2H'

  @description('Rows from which on it alerts, less one.')
  threshold: int
}

@description('Prefix of the rules\' names.')
param namePrefix string

@description('Region.')
param location string

@description('Tags of the rules.')
param tags tagsType

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('Name of the storage account with the usage tables.')
param dataAccountName string

@description('Resource ids of the action groups that are called.')
param actionGroupIds string[]

@description('Where the runbooks are; each rule adds its anchor.')
param runbooksUrl string

var rules ruleType[] = [
  {
    name: 'event-lost'
    summary: 'Usage events could not be stored anywhere and are in the log only'
    severity: 0
    query: loadTextContent('../kql/alerts/event_lost.kql')
    every: 'PT5M'
    window: 'PT30M'
    threshold: 0
  }
  {
    name: 'hub-events-missing'
    summary: 'Event Hubs dropped messages before they were counted'
    severity: 0
    query: loadTextContent('../kql/alerts/hub_events_missing.kql')
    every: 'PT15M'
    window: 'PT30M'
    threshold: 0
  }
  {
    name: 'ledger-stalled'
    summary: 'Nothing was counted for 15 minutes although messages wait'
    severity: 1
    query: loadTextContent('../kql/alerts/ledger_stalled.kql')
    every: 'PT5M'
    window: 'PT15M'
    threshold: 0
  }
  {
    name: 'no-events'
    summary: 'Calls were answered for an hour and no usage event reached the hub'
    severity: 1
    query: loadTextContent('../kql/alerts/no_events.kql')
    every: 'PT15M'
    window: 'PT1H'
    threshold: 0
  }
  {
    name: 'credentials-refused'
    summary: 'A backend refuses the app\'s identity or key'
    severity: 1
    query: loadTextContent('../kql/alerts/credentials_refused.kql')
    every: 'PT5M'
    window: 'PT15M'
    threshold: 0
  }
  {
    name: 'backends-exhausted'
    summary: 'Calls are refused because all backends cool down or fail, for three minutes of the last 15'
    severity: 1
    query: loadTextContent('../kql/alerts/backends_exhausted.kql')
    every: 'PT5M'
    window: 'PT15M'
    threshold: 0
  }
  {
    name: 'outbox-old'
    summary: 'Events wait in the outbox for more than 10 minutes'
    severity: 2
    query: loadTextContent('../kql/alerts/outbox_old.kql')
    every: 'PT5M'
    window: 'PT15M'
    threshold: 0
  }
  {
    name: 'hub-lag'
    summary: 'Messages wait on the hub for more than 10 minutes'
    severity: 2
    query: loadTextContent('../kql/alerts/hub_lag.kql')
    every: 'PT5M'
    window: 'PT15M'
    threshold: 0
  }
  {
    name: 'events-dead-lettered'
    summary: 'Events could not be counted and wait in DeadLetters'
    severity: 2
    query: loadTextContent('../kql/alerts/events_dead_lettered.kql')
    every: 'PT15M'
    window: 'PT30M'
    threshold: 0
  }
  {
    name: 'reload-refused'
    summary: 'A changed settings document is invalid: the last good one is kept'
    severity: 2
    query: loadTextContent('../kql/alerts/reload_refused.kql')
    every: 'PT15M'
    window: 'PT30M'
    threshold: 0
  }
  {
    name: 'requests-undelivered'
    summary: 'More than ten calls in an hour began and could not be forwarded'
    severity: 3
    query: loadTextContent('../kql/alerts/requests_undelivered.kql')
    every: 'PT15M'
    window: 'PT1H'
    threshold: 10
  }
  {
    name: 'prices-invalid'
    summary: 'The price book cannot be used: no amounts are shown'
    severity: 3
    query: loadTextContent('../kql/alerts/prices_invalid.kql')
    every: 'PT30M'
    window: 'PT1H'
    threshold: 0
  }
  {
    name: 'export-failed'
    summary: 'The nightly export failed, wholly or for a month'
    severity: 3
    query: loadTextContent('../kql/alerts/export_failed.kql')
    every: 'PT1H'
    window: 'PT2H'
    threshold: 0
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

resource dataAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dataAccountName

  resource tables 'tableServices' existing = {
    name: 'default'
  }
}

resource logAlerts 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for rule in rules: {
    name: '${namePrefix}-alert-${rule.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${namePrefix} ${rule.name}'
      description: '${rule.summary}. Runbook: ${runbooksUrl}#${rule.name}'
      severity: rule.severity
      enabled: true
      scopes: [
        workspace.id
      ]
      evaluationFrequency: rule.every
      windowSize: rule.window
      // A table exists from its first row on. Until then the query stands on an empty one, and is not validated.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: rule.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: rule.threshold
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      autoMitigate: true
      actions: {
        actionGroups: actionGroupIds
      }
    }
  }
]

// A few throttled requests are retried and cost nothing: it alerts on more than 100 in 15 minutes.
resource storageThrottled 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: '${namePrefix}-alert-storage-throttled'
  location: 'global'
  tags: tags
  properties: {
    description: 'Table Storage throttles the ledger, the views or the outbox. Runbook: ${runbooksUrl}#storage-throttled'
    severity: 2
    enabled: true
    scopes: [
      dataAccount::tables.id
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'throttled'
          metricNamespace: 'Microsoft.Storage/storageAccounts/tableServices'
          metricName: 'Transactions'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 100
          dimensions: [
            {
              name: 'ResponseType'
              operator: 'Include'
              values: [
                'ClientAccountBandwidthThrottlingError'
                'ClientAccountRequestThrottlingError'
                'ClientThrottlingError'
                'ServerBusyError'
                'SuccessWithThrottling'
              ]
            }
          ]
        }
      ]
    }
    autoMitigate: true
    actions: [
      for id in actionGroupIds: {
        #disable-next-line use-resource-id-functions // the ids are a parameter
        actionGroupId: id
      }
    ]
  }
}
