"""What a run of the benchmarks was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.gateway.ours import Tree
from bench.gateway.servers import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long each gateway is loaded at a time, and how often with each start of it; other trees and
    other gateways to measure, too.
    """

    rounds: int
    seconds: float
    trees: Sequence[Tree] = ()
    peers: Sequence[Spec] = ()
