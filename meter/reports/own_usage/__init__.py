"""The usage of one subject, as it is shown to that subject."""
