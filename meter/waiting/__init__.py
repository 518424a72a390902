"""Waiting: for so many seconds, and without a turn or a timer of the event loop."""
