// infra/main.parameters.json as it is.
using '../../../infra/main.bicep'

var shipped = loadJsonContent('../../../infra/main.parameters.json').parameters

param namePrefix = shipped.namePrefix.value
param audiences = shipped.audiences.value
param requiredRoles = shipped.requiredRoles.value
param subjectClaim = shipped.subjectClaim.value
param backends = shipped.backends.value
param alwaysReady = shipped.alwaysReady.value
param captureEnabled = shipped.captureEnabled.value
param analystsGroupId = shipped.analystsGroupId.value
param operatorsGroupId = shipped.operatorsGroupId.value
