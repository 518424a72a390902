"""A stand-in for Azure's Retail Prices API."""
