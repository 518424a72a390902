"""The backends document, METER_BACKENDS: the AOAI accounts and their deployments."""
