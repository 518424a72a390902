"""The arguments of the commands that close a month."""
