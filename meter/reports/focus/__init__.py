"""Writes charges as FOCUS, the FinOps Open Cost and Usage Specification: https://focus.finops.org."""
