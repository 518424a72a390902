"""What the two sides of a reconciliation counted: tokens and calls, by deployment and hour."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import NamedTuple

from meter.window import Window

JUDGED_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Tokens and calls of one side; only ours has estimated and missing calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    calls: int = 0
    estimated_calls: int = 0
    missing_calls: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        names = [each.name for each in fields(Tally)]
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


type Hours = Mapping[Window, Tally]


class CountedUnder(NamedTuple):
    """What our usage is told apart by: the backend that served, the public name, the billed tier."""

    backend: str
    deployment: str
    tier: str


@dataclass(frozen=True, slots=True, order=True)
class OwnDeployment:
    """A deployment by its own name on an account. Azure ignores the case of names."""

    resource_id: str
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "resource_id", self.resource_id.lower())
        object.__setattr__(self, "name", self.name.lower())

    @property
    def label(self) -> str:
        """The account's name and the deployment's."""
        return f"{self.resource_id.rpartition('/')[2]}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What Azure recorded of one deployment.

    `tiers` are total tokens by the answers' service tier in Azure's words, in lower case;
    `spilled_calls` are served calls that a provisioned deployment had passed on. They are None where
    Azure does not split its numbers by them.
    """

    hours: Hours = field(default_factory=dict)
    tiers: Mapping[str, int] | None = None
    spilled_calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What was counted and what Azure recorded."""

    counted: Tally = Tally()
    recorded: Tally = Tally()

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(counted=self.counted + other.counted, recorded=self.recorded + other.recorded)

    def difference(self, name: str) -> int:
        """The counted number less the recorded one."""
        return int(getattr(self.counted, name) - getattr(self.recorded, name))

    @property
    def gap(self) -> int:
        """The largest difference of its tokens, without sign."""
        return max(abs(self.difference(name)) for name in JUDGED_TOKENS)

    @property
    def has_tokens(self) -> bool:
        """Whether either side has any."""
        return any(
            getattr(each, name) for each in (self.counted, self.recorded) for name in JUDGED_TOKENS
        )

    def is_within(self, tolerance: Fraction) -> bool:
        """Whether each of its token counts differs from Azure's by the tolerance at most."""
        return all(
            abs(self.difference(name)) <= tolerance * getattr(self.recorded, name)
            for name in JUDGED_TOKENS
        )
