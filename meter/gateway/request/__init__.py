"""What is asked: address, operation, body and deployment."""
