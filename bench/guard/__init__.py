"""A bound on the work of a call, a stream and a batch, in executed instructions."""
