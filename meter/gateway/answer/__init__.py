"""What comes back: relayed byte for byte, its usage read from a copy."""
