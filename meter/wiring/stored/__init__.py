"""Settings that stand in files and blobs: reading them first, and again while the app runs."""
