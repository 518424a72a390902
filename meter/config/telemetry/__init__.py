"""The settings of what is told of calls: to a telemetry backend, and to the host's log."""
