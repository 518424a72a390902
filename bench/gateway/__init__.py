"""The front door beside its peers: CPU, latency, memory, starts, and every byte checked."""
