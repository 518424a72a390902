"""The request: address, operation, body and deployment."""
