"""The commands of `python -m meter`, one module per command.

A command imports what it needs to run when it runs, so that `--help` answers at once.
"""
