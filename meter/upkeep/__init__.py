"""Checks, repairs and trims the tables: sweep, retention, rebuild, replay, adjustments."""
