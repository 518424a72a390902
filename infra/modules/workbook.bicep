// The workbook: overview, backends, subjects and money, from the queries in infra/kql.

import { tagsType } from '../types.bicep'

@description('A panel: a query and how it is shown.')
type panelType = {
  @description('Tab: overview, backends, subjects or money.')
  tab: string

  @description('Heading.')
  title: string

  @description('The query.')
  query: string

  @description('How it is shown.')
  visualization: 'table' | 'linechart' | 'barchart'
}

@description('Region.')
param location string

@description('Tags.')
param tags tagsType

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('Name that is shown.')
param displayName string

var tabs = ['overview', 'backends', 'subjects', 'money']

var panels panelType[] = [
  {
    tab: 'overview'
    title: 'Calls by outcome'
    query: loadTextContent('../kql/overview.kql')
    visualization: 'linechart'
  }
  {
    tab: 'overview'
    title: 'What waits to be counted'
    query: loadTextContent('../kql/lag.kql')
    visualization: 'linechart'
  }
  {
    tab: 'overview'
    title: 'Lines at level error'
    query: loadTextContent('../kql/problems.kql')
    visualization: 'table'
  }
  {
    tab: 'overview'
    title: 'Calls without exact tokens'
    query: loadTextContent('../kql/missing_share.kql')
    visualization: 'table'
  }
  {
    tab: 'backends'
    title: 'Seconds per call'
    query: loadTextContent('../kql/latency.kql')
    visualization: 'table'
  }
  {
    tab: 'backends'
    title: 'Attempts that failed over'
    query: loadTextContent('../kql/failover.kql')
    visualization: 'table'
  }
  {
    tab: 'backends'
    title: 'Throttled attempts'
    query: loadTextContent('../kql/throttling.kql')
    visualization: 'linechart'
  }
  {
    tab: 'backends'
    title: 'Tokens per model'
    query: loadTextContent('../kql/tokens_per_model.kql')
    visualization: 'table'
  }
  {
    tab: 'subjects'
    title: 'Tokens per subject and day'
    query: loadTextContent('../kql/tokens_per_subject_and_day.kql')
    visualization: 'table'
  }
  {
    tab: 'money'
    title: 'Cost per day'
    query: replace(loadTextContent('../kql/money.kql'), 'EXPORT_MANIFEST', '{Manifest}')
    visualization: 'barchart'
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

var timeRange = {
  id: guid(displayName, 'TimeRange')
  version: 'KqlParameterItem/1.0'
  name: 'TimeRange'
  label: 'Time range'
  type: 4
  isRequired: true
  value: {
    durationMs: 86400000
  }
  typeSettings: {
    selectableValues: [
      { durationMs: 3600000 }
      { durationMs: 86400000 }
      { durationMs: 604800000 }
      { durationMs: 2592000000 }
    ]
    allowCustom: true
  }
}

// Only the money needs it: without an address its panel is not shown.
var manifest = {
  id: guid(displayName, 'Manifest')
  version: 'KqlParameterItem/1.0'
  name: 'Manifest'
  label: 'Address of v1/manifest.json with a SAS'
  type: 1
  isRequired: false
  value: ''
}

var parameterItem = {
  type: 9
  name: 'parameters'
  content: {
    version: 'KqlParameterItem/1.0'
    style: 'pills'
    queryType: 0
    resourceType: 'microsoft.operationalinsights/workspaces'
    parameters: [timeRange, manifest]
  }
}

var tabItem = {
  type: 11
  name: 'tabs'
  content: {
    version: 'LinkItem/1.0'
    style: 'tabs'
    links: map(tabs, tab => {
      id: guid(displayName, tab)
      cellValue: 'tab'
      linkTarget: 'parameter'
      linkLabel: '${toUpper(substring(tab, 0, 1))}${substring(tab, 1)}'
      subTarget: tab
      style: 'link'
    })
  }
}

var panelItems = [
  for panel in panels: {
    type: 3
    name: panel.title
    content: {
      version: 'KqlItem/1.0'
      query: panel.query
      size: 0
      title: panel.title
      timeContextFromParameter: 'TimeRange'
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      crossComponentResources: [workspace.id]
      visualization: panel.visualization
    }
    conditionalVisibilities: concat(
      [{ parameterName: 'tab', comparison: 'isEqualTo', value: panel.tab }],
      panel.tab == 'money' ? [{ parameterName: 'Manifest', comparison: 'isNotEqualTo', value: '' }] : []
    )
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, workspaceName, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: displayName
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: workspace.id
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat([parameterItem, tabItem], panelItems)
      fallbackResourceIds: [workspace.id]
    })
  }
}
