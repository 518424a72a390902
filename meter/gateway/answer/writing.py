"""Writes to a caller, who has so many seconds to take each part."""

from msgspec import Struct

from meter.errors import CallerGone
from meter.gateway.http import CallerSink
from meter.waiting.bounded import within


class Recipient(Struct):
    """The caller as a relay writes to it. `writes` counts what was to be written."""

    sink: CallerSink
    seconds: float
    is_gone: bool = False
    writes: int = 0

    async def write(self, data: bytes) -> bool:
        """Write to the caller; false when it has gone, or reads nothing for so long."""
        self.writes += 1
        if self.is_gone:
            return False
        try:
            await within(self.seconds, self.sink.write(data))
        except (CallerGone, TimeoutError):
            self.is_gone = True
            return False
        return True
