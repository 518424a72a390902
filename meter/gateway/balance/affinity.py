"""Remembers which backend stores which response, and which one made which reasoning item.

Azure OpenAI stores a response in the account that made it, and encrypts reasoning for that account.
The instance remembers what it relayed; for the rest, the forwarder tries each backend, since the
wrong ones answer that they know no such response, or cannot read the item. So no store is needed.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable

from msgspec import Struct, field

from meter.gateway.balance.reasoning import ReasoningFinder
from meter.usage import Principal

MAX_REMEMBERED = 50_000
UNKNOWN_DEPLOYMENT = "unknown"


class Owner(Struct, frozen=True, eq=False, gc=False):
    """The backend that stores a response, and the public name of the deployment that made it.

    `maker` is the caller that it was made for, where this instance saw it made. It is not compared.
    """

    backend: str
    deployment: str
    maker: Principal | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Owner):
            return NotImplemented
        return (self.backend, self.deployment) == (other.backend, other.deployment)


class Owners(Struct):
    """The latest responses by id, and reasoning items by digest (`reasoning.py`).

    A wrong entry only costs one more attempt.
    """

    most: int = MAX_REMEMBERED
    _known: OrderedDict[str, Owner] = field(default_factory=OrderedDict)
    _makers: OrderedDict[str, Owner] = field(default_factory=OrderedDict)
    _counted: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def of(self, response_id: str | None) -> Owner | None:
        """The owner of the response, where it is remembered."""
        return None if response_id is None else self._known.get(response_id)

    def learn(self, response_id: str | None, owner: Owner) -> None:
        """Remember the owner of a response; an id of None is ignored."""
        if response_id is None:
            return
        before = self._known.get(response_id)
        if before is not None:
            is_unknown = owner.deployment == UNKNOWN_DEPLOYMENT
            deployment = before.deployment if is_unknown else owner.deployment
            owner = Owner(owner.backend, deployment, owner.maker or before.maker)
        self._remember(self._known, response_id, owner)

    def has_counted(self, response_id: str) -> bool:
        """Whether a background response has been counted here before; it is from now on."""
        is_known = response_id in self._counted
        self._remember(self._counted, response_id, None)
        return is_known

    def maker(self, items: Iterable[str]) -> Owner | None:
        """Who made the first of the reasoning items that is remembered."""
        return next((self._makers[item] for item in items if item in self._makers), None)

    def learn_made(self, items: Iterable[str], owner: Owner) -> None:
        """Remember who made, or could read, reasoning items."""
        for item in items:
            self._remember(self._makers, item, owner)

    async def learn_from(self, chunks: AsyncIterator[bytes], owner: Owner) -> AsyncIterator[bytes]:
        """The chunks of an answer; the reasoning items in it are learned as they pass.

        What takes the answer's bypass is plain: it has none.
        """
        finder = ReasoningFinder()
        async for chunk in chunks:
            self.learn_made(finder.feed(chunk), owner)
            yield chunk

    def _remember[T](self, known: OrderedDict[str, T], key: str, value: T) -> None:
        known[key] = value
        known.move_to_end(key)
        if len(known) > self.most:
            known.popitem(last=False)
