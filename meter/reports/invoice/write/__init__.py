"""Writes split invoices in their formats."""
