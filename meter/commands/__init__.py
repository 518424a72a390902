"""The repair commands of `python -m meter`, a module each."""
