"""Load balancing: choosing a backend, failing over to the next."""
