"""Reading along on the hub."""
