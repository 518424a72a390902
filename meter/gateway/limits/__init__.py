"""What one instance takes at once, and how much of it one subject may have."""
