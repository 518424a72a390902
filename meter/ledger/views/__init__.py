"""Copies of the sums for those who read across subjects: the views, and one row per subject."""
