"""Provisioned capacity: what it costs per hour, and who pays for it."""
