"""A stand-in of Azure Monitor's metrics API, for AOAI accounts only."""
