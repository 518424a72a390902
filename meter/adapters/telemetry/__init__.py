"""What is observed of calls, by OpenTelemetry: metrics and spans, and never a log record.

Its packages are extras (`otlp`, `azure-monitor`). Only `gauges.py` and `conventions.py` can be
imported without them.
"""
