"""Where Azure's retail prices come from: its API, or files that somebody saved of it."""
