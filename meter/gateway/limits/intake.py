"""Takes in one call's body: within its own limit, and within the instance's budget for bodies.

The bytes are held from the moment they are announced, or arrive, until the call cannot need them any
more. A body that is refused holds nothing.
"""

from collections.abc import Callable

from msgspec import Struct

from meter.errors import TooLarge
from meter.gateway.http import Request, RequestBody
from meter.gateway.limits.holds import Holds
from meter.gateway.limits.quota import Holding
from meter.gateway.limits.turns import Turns
from meter.ports import Spool


class BodyLimits(Struct, frozen=True, kw_only=True):
    """The most bytes of a body. JSON is held in memory, large forms on disk."""

    max_form_bytes: int
    max_json_bytes: int


class Intake(Struct, frozen=True, kw_only=True):
    """The way in for one call's body. `holds` gives back what it holds."""

    request: Request
    limits: BodyLimits
    turns: Turns
    new_spool: Callable[[], Spool]
    holds: Holds

    def json(self) -> "BoundedBody":
        """The body, where it is JSON."""
        return self._bounded(self.limits.max_json_bytes, "JSON")

    def form(self) -> "BoundedBody":
        """The body, where it is a form."""
        return self._bounded(self.limits.max_form_bytes, "forms")

    def _bounded(self, most: int, kind: str) -> "BoundedBody":
        length = self.request.named.get("content-length", "")
        declared = int(length[:18]) if length.isascii() and length.isdigit() else None
        return BoundedBody(self.request.body, most, kind, declared, self.holds.body)


class BoundedBody(Struct):
    """A `RequestBody` that raises TooLarge beyond `most` bytes, and Overloaded beyond the budget."""

    source: RequestBody
    most: int
    kind: str
    declared_bytes: int | None
    held: Holding
    _size: int = 0

    async def read(self) -> bytes:
        """All of it. Where its length is declared, that is held before it comes."""
        declared = self.declared_bytes
        if declared is not None:
            self._hold(declared)
            whole = await self.source.read()
            if len(whole) > declared:
                self._hold(len(whole))
            return whole
        parts: list[bytes] = []
        while part := await self.next_part():
            parts.append(part)
        return b"".join(parts)

    async def next_part(self) -> bytes:
        """The next bytes; empty at the end."""
        self._hold(self.declared_bytes or 0)
        part = await self.source.next_part()
        self._size += len(part)
        self._hold(self._size)
        return part

    def _hold(self, size: int) -> None:
        if size > self.most:
            raise TooLarge(
                f"The request body is larger than {self.most} bytes, the limit for {self.kind}."
            )
        held = self.held
        if size > held.size and (refusal := held.grow(size - held.size)) is not None:
            raise refusal.error(
                share="Your calls under way have as many bytes in their bodies as one caller may have "
                "on this instance.",
                full="This instance has no room for the request body now.",
            )
