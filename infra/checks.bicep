// What a type cannot refuse: problems of parameters, as texts; main.bicep fails with all of them before anything is made.

import { backendType } from 'types.bicep'

@description('Names of app settings that Flex Consumption refuses, by their beginning: functions-app-settings#flex-consumption-plan-deprecations on Microsoft Learn.')
var refusedByFlex = [
  'FUNCTIONS_'
  'WEBSITE_'
  'SCM_'
  'ENABLE_ORYX_BUILD'
]

@description('What keys, connection strings and signatures contain.')
var marksOfSecrets = [
  'accountkey='
  'sharedaccesskey='
  'sharedaccesssignature='
  'instrumentationkey='
  'password='
  'sig='
  '@microsoft.keyvault('
]

@export()
@description('Problems of a prefix of names: storage accounts take lower-case letters and digits alone, and apps begin with a letter.')
func prefixProblems(prefix string) string[] =>
  length(filter(
      range(0, length(prefix)),
      i =>
        !contains(
          split('a b c d e f g h i j k l m n o p q r s t u v w x y z 0 1 2 3 4 5 6 7 8 9', ' '),
          substring(prefix, i, 1)
        )
    )) > 0 || contains(split('0 1 2 3 4 5 6 7 8 9', ' '), substring(prefix, 0, 1))
    ? ['namePrefix must be lower-case letters and digits, the first a letter; got ${prefix}']
    : []

@export()
@description('Problems of one backend; `secrets` are the names of settings that hold keys.')
func backendProblems(backend backendType, secrets string[]) string[] =>
  concat(
    startsWith(backend.url, 'https://') ? [] : ['backend ${backend.name}: url must begin with https://'],
    empty(backend.?deployments) && empty(backend.?describedDeployments)
      ? ['backend ${backend.name}: needs at least one deployment']
      : [],
    backend.?auth.?kind == 'api-key' && !contains(secrets, backend.?auth.?setting ?? '')
      ? ['backend ${backend.name}: auth.setting must be a name in keyVaultReferences']
      : []
  )

@export()
@description('Problems of free settings; `taken` are the names that have a parameter.')
func settingProblems(settings { *: string }, taken string[]) string[] =>
  flatten(map(
    items(settings),
    s =>
      concat(
        contains(map(taken, t => toLower(t)), toLower(s.key))
          ? ['additionalSettings: ${s.key} has a parameter of its own']
          : [],
        length(filter(refusedByFlex, r => startsWith(toUpper(s.key), r))) > 0
          ? ['additionalSettings: Flex Consumption refuses ${s.key}']
          : [],
        length(filter(marksOfSecrets, m => contains(toLower(s.value), m))) > 0
          ? ['additionalSettings: ${s.key} holds a secret: use keyVaultReferences']
          : []
      )
  ))

@export()
@description('Problems of references to secrets.')
func secretProblems(secrets { *: string }) string[] =>
  map(
    filter(
      items(secrets),
      s => !(startsWith(s.value, 'https://') && contains(s.value, '.vault.') && contains(s.value, '/secrets/'))
    ),
    s => 'keyVaultReferences: ${s.key} must be https://VAULT.vault.azure.net/secrets/NAME, not the secret itself'
  )

@export()
@description('Problems of the addresses that may pass a closed network.')
func addressProblems(addresses string[]) string[] =>
  map(
    filter(
      addresses,
      a => length(split(a, '.')) != 4 || startsWith(a, '10.') || startsWith(a, '192.168.') || startsWith(a, '0.')
    ),
    a => 'allowedAddresses: ${a} is no public IPv4 address or range'
  )
