"""A gauge: what is read now and then of state that exists anyway."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

type Readings = Iterable[tuple[float, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is read. `read` runs in a thread of its own, and gives values with their attributes.

    With `is_total` it only grows.
    """

    name: str
    unit: str
    read: Callable[[], Readings]
    is_total: bool = False
