"""The answer: relayed byte for byte, its usage read from a copy."""
