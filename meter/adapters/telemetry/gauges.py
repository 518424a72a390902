"""A gauge: what is read now and then of state that exists anyway."""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

type Readings = Iterable[tuple[float, Mapping[str, str]]]


class Gauge(Struct, frozen=True):
    """What is read. `read` runs in a thread of its own, and gives values with their attributes.

    With `is_total` it only grows.
    """

    name: str
    unit: str
    read: Callable[[], Readings]
    is_total: bool = False
