"""Waiting: for so many seconds, and without a turn of the event loop."""
