"""Lets a repeated request have the answer of the call that it repeats, instead of a second call."""
