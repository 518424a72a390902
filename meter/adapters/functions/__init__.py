"""The Azure Functions host: its web extension and its triggers."""
