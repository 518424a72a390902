"""Keeps the tables right: sweep, retention, rebuild, replay, adjustments."""
