"""Meters Azure OpenAI tokens per Entra ID subject: a front door, a usage event a call, a ledger."""

__version__ = "0.1.0"  # that of pyproject.toml, which is not deployed
