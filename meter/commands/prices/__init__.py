"""`python -m meter prices`: fills a price book, and checks it. One module per action."""
