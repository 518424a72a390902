"""Builds the checks of `doctor` from settings, and runs them."""
