"""Azure Monitor's metrics: asking for them, and reading the answer."""
