"""What people call subjects, and whom they charge for them: lists, files and changes."""
