"""The versions of FOCUS, apart from their columns."""

from enum import StrEnum

UNKNOWN_ACCOUNT = "unknown"


class FocusVersion(StrEnum):
    """The versions that can be written."""

    V1_2 = "1.2"
    V1_4 = "1.4"
