"""What a FOCUS file says beside the charges themselves: its version, and whose account they are of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meter.gateway.backend import Backend
from meter.reports.focus.charge import Resource
from meter.reports.focus.version import UNKNOWN_ACCOUNT, FocusVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusTerms:
    """The version, the billing account, and the accounts of the backends by their names."""

    version: FocusVersion = FocusVersion.V1_2
    billing_account: str = UNKNOWN_ACCOUNT
    resources: Mapping[str, Resource] = field(default_factory=dict)

    def of_account(self, resource_id: str) -> Resource:
        """The account with that id, in any case; its region where all of its backends have one."""
        found = [each for each in self.resources.values() if each.id.lower() == resource_id.lower()]
        regions = {each.region for each in found}
        return Resource(resource_id, regions.pop() if len(regions) == 1 else "")


def resources_of(backends: Iterable[Backend]) -> dict[str, Resource]:
    """The accounts of backends, by the backends' names."""
    return {each.name: Resource(each.resource_id or "", each.region or "") for each in backends}
