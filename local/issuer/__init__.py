"""A token issuer for machines without Entra ID: signs tokens, publishes the verifying keys."""
