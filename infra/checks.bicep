// What a type cannot refuse: problems of parameters, as texts; main.bicep fails with all of them before anything is made.

import { backendType } from 'types.bicep'

var digits = split('0 1 2 3 4 5 6 7 8 9', ' ')
var lettersAndDigits = concat(split('a b c d e f g h i j k l m n o p q r s t u v w x y z', ' '), digits)

@description('Names of connections, which are by identity alone.')
var connections = [
  'AzureWebJobsStorage'
  'EventHubConnection'
  'MeterStorage'
]

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

@description('Whether a text has other characters than these.')
func hasOthers(text string, characters string[]) bool =>
  length(filter(range(0, length(text)), i => !contains(characters, substring(text, i, 1)))) > 0

@description('Whether a text is a whole number from least to most.')
func isNumber(text string, least int, most int) bool =>
  empty(text) || length(text) > 3 || hasOthers(text, digits) ? false : int(text) >= least && int(text) <= most

@description('Whether a text is an IPv4 address or range; storage takes no /31, and a range above /8 would be nearly everybody.')
func isRange(address string) bool =>
  length(split(address, '/')) <= 2 && length(split(address, '.')) == 4 && empty(filter(
    split(split(address, '/')[0], '.'),
    part => !isNumber(part, 0, 255)
  )) && (!contains(address, '/') || isNumber(last(split(address, '/')), 8, 30) || endsWith(address, '/32'))

@description('Whether a range is in a network of private, local or multicast addresses.')
func isReserved(address string) bool =>
  contains(['0', '10', '127'], split(address, '.')[0]) || startsWith(address, '192.168.') || startsWith(
    address,
    '169.254.'
  ) || int(split(address, '.')[0]) >= 224 || (startsWith(address, '172.') && isNumber(split(address, '.')[1], 16, 31))

@export()
@description('Problems of a prefix of names: storage accounts take lower-case letters and digits alone, and apps begin with a letter.')
func prefixProblems(prefix string) string[] =>
  hasOthers(prefix, lettersAndDigits) || contains(digits, substring(prefix, 0, 1))
    ? ['namePrefix must be lower-case letters and digits, the first a letter; got ${prefix}']
    : []

@export()
@description('Problems of one backend; `secrets` are the names of settings that hold keys.')
func backendProblems(backend backendType, secrets string[]) string[] =>
  concat(
    startsWith(backend.url, 'https://') ? [] : ['backend ${backend.name}: url must begin with https://'],
    contains(backend.url, '@') || contains(backend.url, '?')
      ? ['backend ${backend.name}: url must hold no sign-in and no query']
      : [],
    map(
      filter(
        concat([backend.name], objectKeys(backend.?deployments ?? {}), objectKeys(backend.?describedDeployments ?? {})),
        name => length(name) > 64 || hasOthers(toLower(name), concat(lettersAndDigits, ['.', '_', '-']))
      ),
      name => 'backend ${backend.name}: ${name} must be 1 to 64 letters, digits and ._-'
    ),
    empty(backend.?deployments) && empty(backend.?describedDeployments)
      ? ['backend ${backend.name}: needs at least one deployment']
      : [],
    backend.?auth.?kind == 'api-key' && !contains(secrets, backend.?auth.?setting ?? '')
      ? ['backend ${backend.name}: auth.setting must be a name in keyVaultReferences']
      : []
  )

@export()
@description('Problems of the backends together: a name stands for one in events and in the tables.')
func namesakeProblems(names string[]) string[] => map(filter(union(names, []), name => length(filter(names, other => toLower(other) == toLower(name))) > 1), name => 'backends: ${name} is the name of several')

@export()
@description('Problems of a list that becomes a setting with commas between its texts.')
func commaProblems(parameter string, texts string[]) string[] =>
  map(
    filter(texts, text => contains(text, ',') || trim(text) != text || empty(trim(text))),
    text => '${parameter}: each must be one text without commas or spaces around it; got ${text}'
  )

@export()
@description('Problems of an object id, which role assignments take and nothing else; empty: none.')
func objectIdProblems(parameter string, id string) string[] =>
  empty(id) || (length(id) == 36 && length(split(id, '-')) == 5 && !hasOthers(
      toLower(replace(id, '-', '')),
      concat(digits, ['a', 'b', 'c', 'd', 'e', 'f'])
    ))
    ? []
    : ['${parameter} must be an object id; got ${id}']

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
        contains(map(connections, c => toLower(c)), toLower(s.key))
          ? ['additionalSettings: ${s.key} would be a connection by key: the deployment connects by identity']
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
@description('Problems of references to secrets; `taken` are the names that have a parameter.')
func secretProblems(secrets { *: string }, taken string[]) string[] =>
  concat(
    map(
      filter(
        items(secrets),
        s => !(startsWith(s.value, 'https://') && contains(s.value, '.vault.') && contains(s.value, '/secrets/'))
      ),
      s => 'keyVaultReferences: ${s.key} must be https://VAULT.vault.azure.net/secrets/NAME, not the secret itself'
    ),
    map(
      filter(items(secrets), s => contains(map(concat(taken, connections), t => toLower(t)), toLower(s.key))),
      s => 'keyVaultReferences: ${s.key} is set by the deployment'
    )
  )

@export()
@description('Problems of the addresses that may pass a closed network.')
func addressProblems(addresses string[]) string[] =>
  map(
    filter(addresses, a => isRange(a) ? isReserved(a) : true),
    a => 'allowedAddresses: ${a} is no public IPv4 address, nor a range from /8 to /30'
  )
