"""What a run of the benchmarks was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.gateway.ours import Tree
from bench.gateway.servers import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how often each gateway is loaded; other trees and other gateways to measure, too."""

    rounds: int
    seconds: float
    trees: Sequence[Tree] = ()
    peers: Sequence[Spec] = ()

    @property
    def fewer_rounds(self) -> int:
        """For parts that have many windows."""
        return min(self.rounds, 3)
