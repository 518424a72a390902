"""What `doctor` finds: whether each dependency of the app answers and grants access."""
