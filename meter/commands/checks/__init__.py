"""Commands that check settings: by themselves, and against what they name."""
