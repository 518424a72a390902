"""Answers that nobody has taken yet: in memory, for a while, within bounds.

Each subject may have its share of the bytes; its oldest answer makes room for a newer one. What has no
room is not kept, and its repeat is a call of its own.
"""

from collections.abc import Hashable

from msgspec import Struct, field

from meter.gateway.headers import size_of
from meter.gateway.http import Answer
from meter.gateway.limits.quota import Holding, Quota

OVERHEAD_BYTES = 4_096  # of one answer: its key and objects, 2 KB where measured


def kept_bytes(answer: Answer) -> int:
    """What an answer is counted as."""
    return len(answer.body) + size_of(answer.headers) + OVERHEAD_BYTES


class Kept[C: Hashable](Struct):
    """The bytes that are kept for calls, whose own answers the calls hold."""

    quota: Quota
    _of: dict[str, dict[C, Holding]] = field(default_factory=dict)  # by subject, the oldest first

    def make_room(self, call: C, subject: str, size: int) -> list[C] | None:
        """Take so many bytes for a call, and return the calls that must give theirs up for it.

        None where there is no room.
        """
        quota, own = self.quota, self._of.get(subject, {})
        if size > quota.total - quota.used + quota.held_by(subject):
            return None
        given_up: list[C] = []
        holding = quota.holding(subject)
        while holding.grow(size) is not None:
            oldest = next(iter(own))
            given_up.append(oldest)
            self.drop(oldest, subject)
        self._of.setdefault(subject, {})[call] = holding
        return given_up

    def drop(self, call: C, subject: str) -> None:
        """Give a call's bytes back, if it has any."""
        own = self._of.get(subject, {})
        if (holding := own.pop(call, None)) is not None:
            holding.give_back()
            if not own:
                del self._of[subject]
