"""Turns the tables into reports."""
