"""The days of a cost export, in the forms that Azure writes them."""

import re
from datetime import date

_FORMS = (
    re.compile(r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)(?P<time>.*)", re.ASCII),
    # Usage details of EA and MCA accounts; never the day first.
    re.compile(r"(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})(?P<time>.*)", re.ASCII),
    re.compile(r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?P<time>)", re.ASCII),
)
# FOCUS 1.0 has no seconds, 1.0r2 has; both are UTC.
_TIME = re.compile(
    r"([ T]\d{1,2}:\d\d(:\d\d(\.\d+)?)?( ?[AP]M)?(Z|\+00:?00| UTC)?)?", re.ASCII | re.IGNORECASE
)


def parse_day(text: str) -> date:
    """The day. Raises ValueError that says what is accepted."""
    text = text.strip()
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is None or not _TIME.fullmatch(match["time"]):
            continue
        try:
            return date(int(match["y"]), int(match["m"]), int(match["d"]))
        except ValueError:
            break
    raise ValueError(
        f"must be a day as Azure writes it, MM/DD/YYYY or YYYY-MM-DD (UTC); got {text[:40]!r}"
    )
