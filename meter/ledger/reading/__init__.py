"""Events as values: every event with care, plain ones in one step."""
