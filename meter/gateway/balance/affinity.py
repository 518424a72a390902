"""Remembers which backend stores which response.

Azure OpenAI stores a response in the account that made it. The instance remembers the responses
that it relayed; for others, the forwarder tries each backend, since the wrong ones answer that they
know no such response. So no store is needed.
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
    """The latest responses by id. A wrong entry only costs one more attempt."""

    most: int = MAX_REMEMBERED
    _known: OrderedDict[str, Owner] = field(default_factory=OrderedDict)

    def of(self, response_id: str | None) -> Owner | None:
        """The owner of the response, where it is remembered."""
        return None if response_id is None else self._known.get(response_id)

    def learn(self, response_id: str | None, owner: Owner) -> None:
        """Remember the owner of a response; an id of None is ignored."""
        if response_id is None:
            return
        before = self._known.get(response_id)
        if before is not None and owner.deployment == UNKNOWN_DEPLOYMENT:
            owner = Owner(owner.backend, before.deployment)
        self._known[response_id] = owner
        self._known.move_to_end(response_id)
        if len(self._known) > self.most:
            self._known.popitem(last=False)
