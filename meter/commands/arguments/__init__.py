"""The arguments of each command, apart from what a run imports: `--help` answers at once."""
