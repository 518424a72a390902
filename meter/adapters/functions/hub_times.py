"""Reads the times of hub messages in one step, in place of Microsoft's library.

The library tries twelve formats, and the host's is the sixth. Each that fails raises an exception, and the
last one stays in a variable of the frame that it refers to: a cycle per message. It holds the batch and all
frames below it until a garbage collection, which is rare here (`memory.py`).
"""

import logging
from contextlib import suppress
from datetime import datetime
from typing import Any

from azure.functions import eventhub

CONVERTER, READ = "EventHubTriggerConverter", "_parse_datetime"

log = logging.getLogger(__name__)


def replace_time_reading() -> bool:
    """Have the library's event hub trigger read times here; False if its parts have changed.

    Times in other forms than the host's are still the library's.
    """
    converter: Any = getattr(eventhub, CONVERTER, None)
    inherited: Any = converter and getattr(super(converter, converter), READ, None)
    if not callable(inherited):
        log.error("runtime_changed missing=%s.%s", eventhub.__name__, CONVERTER)
        return False

    def read(text: str | None) -> datetime | None:
        if text and text.endswith("Z"):
            with suppress(ValueError):
                return datetime.fromisoformat(text)
        found: datetime | None = inherited(text)
        return found

    setattr(converter, READ, staticmethod(read))
    return True
