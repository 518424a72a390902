"""What one call asks of a backend, and how that compares with what a deployment usually serves.

Azure OpenAI decides by an estimate made before the work: the prompt and the most tokens that the
answer may have. A request that is larger than the quota is refused however idle the deployment is,
so a refusal of a call much larger than usual is about that call.
"""

from math import exp, log

from msgspec import Struct

LARGE = 4  # times the usual demand
FIRST_USUAL_TOKENS = 100.0
SMOOTHING = 0.05


class Demand(Struct, frozen=True, gc=False):
    """The tokens that a call may need, roughly, and whose call it is."""

    tokens: int = 0
    caller: str = ""


NO_DEMAND = Demand()


class UsualDemand(Struct):
    """The usual demand of the calls that one deployment serves.

    A moving geometric mean, so that a few huge calls do not make huge calls usual.
    """

    _served: int = 0
    _log: float = log(FIRST_USUAL_TOKENS)

    @property
    def most_tokens(self) -> int:
        """The demand above which a call is much larger than usual."""
        return round(LARGE * exp(self._log))

    def served(self, demand: Demand) -> None:
        """A backend served a call."""
        self._served = served = self._served + 1
        weight = max(SMOOTHING, 1 / (served + 1))
        self._log += weight * (log(max(demand.tokens, 1)) - self._log)

    def is_exceeded_by(self, demand: Demand) -> bool:
        """Whether the call is much larger than usual."""
        return demand.tokens > self.most_tokens
