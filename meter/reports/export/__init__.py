"""Exports: the report's files in one folder, kept up to date, which other programs read."""
