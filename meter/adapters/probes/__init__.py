"""Probes of the services that the app needs, for `meter.doctor`: they ask, and judge nothing."""
