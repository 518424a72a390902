"""A stand-in for Azure Monitor's metrics API, for AOAI accounts only."""
