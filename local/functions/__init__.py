"""A small Functions host that drives Microsoft's azure-functions-runtime as the real host does."""
