"""What `doctor` finds: whether each part that the app needs answers, and lets it in."""
