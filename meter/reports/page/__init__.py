"""Writes a report as one HTML page to look at, without anything from the network."""
