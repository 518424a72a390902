"""Runs coding agents and SDKs from npm, unmodified, against the local stack (`make clients`)."""
