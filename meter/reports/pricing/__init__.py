"""What usage costs: kinds of usage, prices of a book, and amounts that stay exact."""
