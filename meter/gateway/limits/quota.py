"""A bounded quantity of one instance, of which each subject may hold a share.

| a subject asks for more          | the instance has it | it has not |
|----------------------------------|---------------------|------------|
| within its share                 | given               | `FULL`     |
| beyond its share                 | `SHARE`             | `FULL`     |
| beyond it, for its only holding  | given               | `FULL`     |

So a share is at least one holding, however large, and nobody is refused for what others hold as
long as the instance has room.
"""

from enum import Enum, auto

from msgspec import Struct, field

from meter.errors import ErrorKind, Overloaded

_AGAIN = "Please retry after 1 second."


class Refusal(Enum):
    """Why nothing was given."""

    FULL = auto()  # the instance has no more
    SHARE = auto()  # the subject has its share

    def error(self, *, share: str, full: str) -> Overloaded:
        """What a caller is told, in the one text or the other."""
        match self:
            case Refusal.SHARE:
                return Overloaded(f"{share} {_AGAIN}", retry_after_seconds=1, kind=ErrorKind.SHARE)
            case Refusal.FULL:
                return Overloaded(f"{full} {_AGAIN}", retry_after_seconds=1, status=503)


class Quota(Struct):
    """So much of something, of which one subject may hold `share`. `used` is what all hold together."""

    total: int
    share_percent: int = 100
    used: int = 0
    share: int = 0
    _held: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resize(self.total, self.share_percent)

    def resize(self, total: int, share_percent: int) -> None:
        """Change the bounds. What is held beyond them is held until it is given back."""
        self.total, self.share_percent = total, share_percent
        self.share = total * share_percent // 100

    def holding(self, subject: str) -> "Holding":
        """A holding of nothing yet."""
        return Holding(self, subject)

    def held_by(self, subject: str) -> int:
        """What a subject holds."""
        return self._held.get(subject, 0)


class Holding(Struct):
    """What one call holds of a quota, until it is given back."""

    quota: Quota
    subject: str
    size: int = 0

    def grow(self, amount: int) -> Refusal | None:
        """Take so much more, all of it or nothing."""
        quota = self.quota
        used = quota.used + amount
        if used > quota.total:
            return Refusal.FULL
        held = quota._held.get(self.subject, 0)
        if held != self.size and held + amount > quota.share:
            return Refusal.SHARE
        if amount:
            quota.used = used
            quota._held[self.subject] = held + amount
            self.size += amount
        return None

    def give_back(self) -> None:
        """Give all of it back, once."""
        size, quota = self.size, self.quota
        if not size:
            return
        self.size = 0
        quota.used -= size
        if left := quota._held.pop(self.subject) - size:
            quota._held[self.subject] = left
