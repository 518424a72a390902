"""Adjustments of calls: noted beside the call, and none takes it below zero."""
