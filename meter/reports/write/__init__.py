"""Writes reports in their formats."""
