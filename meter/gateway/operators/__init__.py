"""What the app answers to those who run it."""
