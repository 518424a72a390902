"""Meters Azure OpenAI tokens per Entra ID subject: a front door, a usage event a call, a ledger."""
