"""Gets every usage event to Event Hubs, or into the outbox, or into the log."""
