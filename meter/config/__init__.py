"""Settings: their values, and reading them from the environment."""
