"""Builds the app's objects from its settings, and nothing else."""
