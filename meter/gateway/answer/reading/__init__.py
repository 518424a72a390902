"""What an answer reports: its counts, its hosted tools' calls, and the members that long texts keep."""
