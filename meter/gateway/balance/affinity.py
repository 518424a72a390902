"""Remembers which backend stores which response.

A response that Azure OpenAI has stored is known to the one account that made it. What this
instance has relayed it remembers; what it has not, the forwarder finds by asking the backends in
turn, since every other one answers that it knows no such response. So nothing has to be stored.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

MAX_REMEMBERED = 50_000
UNKNOWN_DEPLOYMENT = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """The backend that stores a response, and the public name of the deployment that made it."""

    backend: str
    deployment: str


@dataclass(slots=True)
class Owners:
    """The latest responses by id. A wrong memory only costs one more question."""

    most: int = MAX_REMEMBERED
    _known: OrderedDict[str, Owner] = field(default_factory=OrderedDict)

    def of(self, response_id: str | None) -> Owner | None:
        """Who stores the response, where it is remembered."""
        return None if response_id is None else self._known.get(response_id)

    def learn(self, response_id: str | None, owner: Owner) -> None:
        """Remember who stores a response; None is nobody's."""
        if response_id is None:
            return
        before = self._known.get(response_id)
        if before is not None and owner.deployment == UNKNOWN_DEPLOYMENT:
            owner = Owner(owner.backend, before.deployment)
        self._known[response_id] = owner
        self._known.move_to_end(response_id)
        if len(self._known) > self.most:
            self._known.popitem(last=False)
