"""Delivers every usage event to Event Hubs, else to the outbox, else to the log."""
