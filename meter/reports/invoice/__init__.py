"""Splits Azure's own bill by counted usage: what each subject has to pay of each billed row."""
