"""W3C trace context: which `traceparent` belongs to a trace (https://www.w3.org/TR/trace-context/)."""

import re

from meter.patterns import lazy_pattern

MAX_CHARS = 256

# Section 3.2: version, trace id, parent id, flags. Ids of zeros and version ff are invalid, and a later
# version may have more behind a hyphen.
_IDS = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = lazy_pattern(rf"00{_IDS}|(?!00|ff)[0-9a-f]{{2}}{_IDS}(-[!-~]*)?", re.ASCII)


def valid_traceparent(value: object) -> str | None:
    """The value if it is a valid `traceparent`, else None."""
    if isinstance(value, str) and len(value) <= MAX_CHARS and _TRACEPARENT.fullmatch(value):
        return value
    return None
