"""The calls of one key, and which of them a request may join if its bytes are equal."""

import asyncio
import math
from collections.abc import Iterator, Sequence

from msgspec import Struct, field

from meter.gateway.joining.repeatable import Repeatable
from meter.gateway.joining.shared import SharedCall

LEFT_SECONDS = 10.0
OLD_SECONDS = 20.0


class Group(Struct):
    """Shared calls, in the order in which they began. `left_at` is when a caller of them last left."""

    calls: dict[SharedCall, None] = field(default_factory=dict)
    left_at: float = -math.inf
    _by_id: dict[str, SharedCall] = field(default_factory=dict)
    _news: asyncio.Future[None] | None = None

    def add(self, call: SharedCall) -> None:
        """A call begins."""
        self.calls[call] = None
        if call.request_id is not None:
            self._by_id[call.request_id] = call

    def remove(self, call: SharedCall) -> None:
        """A call is over."""
        self.calls.pop(call, None)
        if call.request_id is not None and self._by_id.get(call.request_id) is call:
            del self._by_id[call.request_id]
        if self._news is not None:
            self.tell()

    def candidates(self, asked: Repeatable, now: float) -> Sequence[SharedCall]:
        """The calls that a request may join, the one that it repeats most likely first."""
        named = None if asked.request_id is None else self._by_id.get(asked.request_id)
        found = [] if named is None else [named]
        if asked.is_retry:
            found += self.calls
        elif now - self.left_at <= LEFT_SECONDS:
            found += [call for call in self.calls if now - call.left_at <= LEFT_SECONDS]
        if named is None and len(found) > 1:
            found.sort(key=_left_at, reverse=True)
        return [call for call in found if call.is_open(now)]

    def old(self, now: float) -> Iterator[SharedCall]:
        """Those under way for so long that their callers may have given up unnoticed."""
        first = next(iter(self.calls), None)
        if first is None or now - first.started < OLD_SECONDS:
            return  # as nearly always
        for call in list(self.calls):
            if now - call.started < OLD_SECONDS:
                return
            if call.is_under_way and call.waiting:
                yield call

    def tell(self) -> None:
        """A caller of a call has left, or a call is over."""
        news, self._news = self._news, None
        if news is not None:
            news.set_result(None)

    async def news(self, seconds: float) -> None:
        """Wait for that, at most so long."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._news}, timeout=seconds)


def _left_at(call: SharedCall) -> float:
    return call.left_at
