"""Closes a month: a snapshot of its sums that never changes, later corrections, and proofs of its calls."""
