"""Reading along on the hub, and its link."""

# First: it says what the SDK imports.
from meter.adapters.libraries import eventhub as eventhub
