"""Reads settings again that stand in files or blobs, while calls run. Reading itself is the adapters'."""
