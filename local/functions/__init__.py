"""A small Functions host: drives Microsoft's azure-functions-runtime as the real host does."""
