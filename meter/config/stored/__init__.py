"""Settings that may stand in a file or a blob, and are read again while the app runs."""
